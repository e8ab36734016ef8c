"""`predict` on every kind of callable: what it sees, and that nobody can tell it from the function itself."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import otel_ml
from tests.recorder import Recorder

ROOT = Path(__file__).parents[1]


@pytest.fixture
def place() -> Recorder:
    """A configured place that keeps what it is sent."""
    made = Recorder()
    otel_ml.configure(exporters=[made], keep_slower_than=None, set_global=False)
    return made


def flushed(place: Recorder) -> list[ReadableSpan]:
    """Return all spans that ended so far; nothing may be left running."""
    assert otel_ml.flush(10.0)
    assert place.value("ml.prediction.active") == 0
    return place.spans


def outcome(span: ReadableSpan) -> object:
    """Return a span's outcome."""
    return (span.attributes or {})["ml.prediction.outcome"]


def nothing_current() -> bool:
    """Say whether neither a span nor a call is current."""
    return otel_ml.current() is None and not trace.get_current_span().get_span_context().is_valid


class Error(Exception):
    """What functions under test raise."""


RESULT = object()


class Everything:
    """One function of each kind, and a way to call each; they return RESULT or raise."""

    @otel_ml.predict(model="m")
    def method(self, fail: BaseException | None = None) -> object:
        return answer(fail)

    @otel_ml.predict(model="m")
    @classmethod
    def above_class(cls, fail: BaseException | None = None) -> object:
        assert cls is Everything
        return answer(fail)

    @classmethod
    @otel_ml.predict(model="m")
    def below_class(cls, fail: BaseException | None = None) -> object:
        assert cls is Everything
        return answer(fail)

    @otel_ml.predict(model="m")
    @staticmethod
    def above_static(fail: BaseException | None = None) -> object:
        return answer(fail)

    @staticmethod
    @otel_ml.predict(model="m")
    def below_static(fail: BaseException | None = None) -> object:
        return answer(fail)

    @otel_ml.predict(model="m")
    async def coroutine(self, fail: BaseException | None = None) -> object:
        await asyncio.sleep(0)
        return answer(fail)

    def __call__(self, fail: BaseException | None = None) -> object:
        return answer(fail)


def answer(fail: BaseException | None) -> object:
    """Return or raise, inside an observed call."""
    assert isinstance(otel_ml.current(), otel_ml.Call)
    if fail is not None:
        raise fail
    return RESULT


@otel_ml.predict(model="m")
def plain(fail: BaseException | None = None) -> object:
    return answer(fail)


@otel_ml.predict(model="m")
def generator(fail: BaseException | None = None) -> Generator[int, None, object]:
    yield 1
    return answer(fail)


async def async_callable(self: object, fail: BaseException | None = None) -> object:
    return answer(fail)


class AsyncCallable:
    """A callable object whose call is a coroutine."""

    __call__ = async_callable


def drained(steps: Generator[int, None, object]) -> object:
    """Return what a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def with_block(fail: BaseException | None = None) -> object:
    """Use the `with` form."""
    with otel_ml.predict("m") as call:
        assert otel_ml.current() is call
        return answer(fail)


KINDS: dict[str, Callable[..., object]] = {
    "plain": plain,
    "method": Everything().method,
    "above classmethod": Everything.above_class,
    "below classmethod": Everything().below_class,
    "above staticmethod": Everything.above_static,
    "below staticmethod": Everything().below_static,
    "callable": otel_ml.predict(model="m")(Everything()),
    "bound method": otel_ml.predict(model="m")(Everything().__call__),
    "partial": otel_ml.predict(model="m")(functools.partial(answer)),
    "lambda": otel_ml.predict(model="m")(lambda fail=None: answer(fail)),
    "builtin": otel_ml.predict(model="m")(max),
    "coroutine": lambda fail=None: asyncio.run(Everything().coroutine(fail)),
    "async callable": lambda fail=None: asyncio.run(otel_ml.predict(model="m")(AsyncCallable())(fail)),
    "partial coroutine": lambda fail=None: asyncio.run(
        otel_ml.predict(model="m")(functools.partial(async_callable, None))(fail)
    ),
    "generator": lambda fail=None: drained(generator(fail)),
    "with block": with_block,
}


class TestEveryKind:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "builtin"])
    def test_returns_what_the_function_returns(self, place: Recorder, kind: str) -> None:
        """The very object comes back; one call is one span and one count; the context is restored."""
        assert KINDS[kind]() is RESULT

        assert nothing_current()
        (span,) = flushed(place)
        assert span.name == "predict m"
        assert outcome(span) == "success"
        assert span.status.status_code is StatusCode.UNSET
        assert place.value("ml.prediction.duration") == place.value("ml.prediction.samples") == 1
        assert place.value("ml.prediction.errors") == 0

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "builtin"])
    def test_raises_what_the_function_raises(self, place: Recorder, kind: str) -> None:
        """The very exception passes through, with its own traceback; the span is an error and says where, not what."""
        raised = Error("secret text")

        with pytest.raises(Error) as caught:
            KINDS[kind](raised)

        assert caught.value is raised
        assert raised.__cause__ is raised.__context__ is None
        assert nothing_current()
        (span,) = flushed(place)
        attributes = span.attributes or {}
        assert (outcome(span), span.status.status_code, span.status.description) == ("error", StatusCode.ERROR, None)
        assert attributes["error.type"] == f"{Error.__module__}.Error"
        assert attributes["code.function.name"] == "answer"
        assert attributes["code.file.path"] == __file__
        assert "secret" not in span.to_json()
        assert not span.events
        assert place.value("ml.prediction.errors") == 1
        assert place.value("ml.prediction.duration", error__type=f"{Error.__module__}.Error") == 1

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "builtin"])
    @pytest.mark.parametrize("state", ["unconfigured", "metrics only", "unsampled"])
    def test_works_the_same_without_a_span(self, kind: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Results and exceptions pass through also where nothing is configured or no span is made."""
        recorder = Recorder()
        if state == "unconfigured":
            monkeypatch.setitem(globals(), "answer", lambda fail: raise_(fail) if fail else RESULT)
            with_current(monkeypatch)
        else:
            sampling = 0.0 if state == "unsampled" else 1.0
            otel_ml.configure(exporters=[recorder], sampling=sampling, keep_slower_than=None, set_global=False)
        call = KINDS[kind]
        if state == "metrics only":
            token = context.attach(trace.set_span_in_context(unsampled_parent()))
        raised = Error()

        if kind not in {"partial", "with block"} or state != "unconfigured":
            assert call() is RESULT
            with pytest.raises(Error) as caught:
                call(raised)
            assert caught.value is raised
        if state == "metrics only":
            context.detach(token)
        assert nothing_current()
        if state != "unconfigured":
            assert flushed(recorder) == []
            assert recorder.value("ml.prediction.duration") == 2

    def test_of_functions_written_in_c(self, place: Recorder) -> None:
        """Builtins can be observed too."""
        assert KINDS["builtin"](3, 7) == 7
        assert len(flushed(place)) == 1


def raise_(error: BaseException) -> None:
    """Raise, as an expression."""
    raise error


def with_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to do: unconfigured, `current()` is None and the functions must not ask for it."""


def unsampled_parent() -> trace.Span:
    """Return a parent that is not sampled."""
    return trace.NonRecordingSpan(trace.SpanContext(5, 6, True, trace.TraceFlags(0)))
