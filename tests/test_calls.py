"""`predict` on every kind of callable: what it sees, and that nobody can tell it from the function itself."""

from __future__ import annotations

import asyncio
import contextlib
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
    return repr(otel_ml.current()) == "<nothing observed>" and not trace.get_current_span().get_span_context().is_valid


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


# Whether a call is expected to be observed.
OBSERVED = {"calls": True}


def answer(fail: BaseException | None = None) -> object:
    """Return or raise, inside an observed call."""
    assert isinstance(otel_ml.current(), otel_ml.Call) == OBSERVED["calls"]
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
        assert otel_ml.current() is call if OBSERVED["calls"] else nothing_current()
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
    @pytest.mark.parametrize("state", ["unconfigured", "unsampled", "unsampled parent"])
    def test_works_the_same_without_a_span(self, kind: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Results and exceptions pass through also where nothing is configured or no span is made."""
        place = Recorder()
        monkeypatch.setitem(OBSERVED, "calls", state != "unconfigured")
        if state != "unconfigured":
            sampling = 0.0 if state == "unsampled" else 1.0
            otel_ml.configure(exporters=[place], sampling=sampling, keep_slower_than=None, set_global=False)
        raised = Error()

        with trace.use_span(UNSAMPLED) if state == "unsampled parent" else contextlib.nullcontext():
            assert KINDS[kind]() is RESULT
            with pytest.raises(Error) as caught:
                KINDS[kind](raised)
            assert caught.value is raised
            assert repr(otel_ml.current()) == "<nothing observed>"
        assert nothing_current()
        if state != "unconfigured":
            assert flushed(place) == []
            assert place.value("ml.prediction.duration") == 2

    def test_of_functions_written_in_c(self, place: Recorder) -> None:
        """Builtins can be observed too."""
        assert KINDS["builtin"](3, 7) == 7
        assert len(flushed(place)) == 1

    def test_without_spans(self) -> None:
        """`spans=False`: metrics only, and `current()` works all the same."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)

        assert otel_ml.predict(model="m", spans=False)(answer)() is RESULT
        with otel_ml.predict("m", spans=False) as call:
            assert otel_ml.current() is call
            call.set(a=1)

        assert flushed(place) == []
        assert place.value("ml.prediction.duration") == 2


UNSAMPLED = trace.NonRecordingSpan(trace.SpanContext(5, 6, True, trace.TraceFlags(0)))


class TestOutcomes:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (asyncio.CancelledError(), "cancelled"),
            (GeneratorExit(), "cancelled"),
            (SystemExit(), "cancelled"),
            (SystemExit(0), "cancelled"),
            (SystemExit(None), "cancelled"),
            (SystemExit(1), "error"),
            (SystemExit("text"), "error"),
            (KeyboardInterrupt(), "error"),
            (StopIteration(), "error"),
            (ValueError(), "error"),
            (ExceptionGroup("several", [ValueError()]), "error"),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("kind", ["plain", "with block", "method"])
    def test_of_exceptions(self, place: Recorder, error: BaseException, expected: str, kind: str) -> None:
        """Cancellations are no errors: status unset, not in the error rate; every other exception is one."""
        with pytest.raises(type(error)) as caught:
            KINDS[kind](error)

        assert caught.value is error
        (span,) = flushed(place)
        assert outcome(span) == expected
        failed = expected == "error"
        assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert ("error.type" in (span.attributes or {})) == failed
        assert place.value("ml.prediction.errors") == failed
        assert place.value("ml.prediction.duration") == 1

    def test_of_a_cancelled_task(self, place: Recorder) -> None:
        """A task that is cancelled while it predicts is cancelled, not failed."""

        async def main() -> None:
            started = asyncio.Event()

            @otel_ml.predict(model="m")
            async def wait() -> None:
                started.set()
                await asyncio.Event().wait()

            task = asyncio.ensure_future(wait())
            await started.wait()
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("enough",)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait(), 0.001)

        asyncio.run(main())
        assert [outcome(span) for span in flushed(place)] == ["cancelled", "cancelled"]
        assert place.value("ml.prediction.errors") == 0

    def test_of_an_error_raised_in_a_callee(self, place: Recorder) -> None:
        """Nested calls each note the same exception; `error.type` is the class as OpenTelemetry writes it."""
        raised = Error()

        with pytest.raises(Error):
            otel_ml.predict(model="outer")(lambda: plain(raised))()

        spans = flushed(place)
        assert [span.name for span in spans] == ["predict m", "predict outer"]
        assert {(span.attributes or {})["code.line.number"] for span in spans} == {raised_at(raised)}
        assert place.value("ml.prediction.errors") == 2

    def test_of_an_error_thrown_in_say_where_it_was_raised(self, place: Recorder) -> None:
        """What is thrown into a generator is raised where that waited, and not in a file of ours."""

        @otel_ml.predict(model="m")
        def steps() -> Iterator[int]:
            yield 1

        @otel_ml.predict(model="m")
        async def async_steps() -> AsyncIterator[int]:
            yield 1

        async def main() -> None:
            later = async_steps()
            await anext(later)
            await later.athrow(Error())  # type: ignore[attr-defined]  # an async generator

        running = steps()
        next(running)
        with pytest.raises(Error):
            running.throw(Error())  # type: ignore[attr-defined]  # a generator
        with pytest.raises(Error):
            asyncio.run(main())

        places = [where(span) for span in flushed(place)]
        assert [(file, name.rpartition(".")[2]) for file, name in places] == [
            (__file__, "steps"), (__file__, "async_steps"),
        ]  # fmt: skip

    def test_of_a_call_with_wrong_arguments_say_where_it_was_made(self, place: Recorder) -> None:
        """Python raises before the function has begun: the place is that of the call, and not in a file of ours."""
        with pytest.raises(TypeError):
            plain(unexpected=1)  # type: ignore[call-arg]  # that is the point

        ((file, name),) = [where(span) for span in flushed(place)]
        assert (file, name.rpartition(".")[2]) == (
            __file__, "test_of_a_call_with_wrong_arguments_say_where_it_was_made",
        )  # fmt: skip


def where(span: ReadableSpan) -> tuple[str, str]:
    """Return the file and the function in which a span's error was raised."""
    attributes = span.attributes or {}
    return str(attributes["code.file.path"]), str(attributes["code.function.name"])


def raised_at(error: BaseException) -> int:
    """Return the line on which an exception was raised."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_lineno


class TestGenerators:
    def test_pass_everything_through(self, place: Recorder) -> None:
        """`send`, `throw`, `return` and a caught exception work as without us; values are the very objects."""
        item, sent, thrown = object(), object(), Error()
        log: list[object] = []

        @otel_ml.predict(model="m")
        def steps() -> Generator[object, object, object]:
            log.append((yield item))
            try:
                yield 2
            except Error as error:
                log.append(error)
            log.append((yield 3))
            return RESULT

        running = steps()
        assert inspect.isgenerator(running)
        assert next(running) is item
        assert running.send(sent) == 2
        assert running.throw(thrown) == 3
        with pytest.raises(StopIteration) as stop:
            next(running)

        assert stop.value.value is RESULT
        assert log == [sent, thrown, None]
        assert [outcome(span) for span in flushed(place)] == ["success"]

    def test_that_yield_from_another(self, place: Recorder) -> None:
        """`yield from` an observed generator hands values, exceptions and the result through both."""

        @otel_ml.predict(model="inner")
        def inner() -> Generator[int, int, str]:
            got = yield 1
            return f"inner {got}"

        @otel_ml.predict(model="outer")
        def outer() -> Generator[int, int, str]:
            return (yield from inner())

        running = outer()
        assert next(running) == 1
        with pytest.raises(StopIteration) as stop:
            running.send(5)

        assert stop.value.value == "inner 5"
        first, second = flushed(place)
        assert first.parent == second.context

    def test_raise_what_they_raise(self, place: Recorder) -> None:
        """An exception from inside, and one thrown in and not caught, arrive as they are and make an error."""
        raised = Error()

        @otel_ml.predict(model="m")
        def steps(fail: bool) -> Iterator[int]:
            yield 1
            if fail:
                raise raised

        running = steps(fail=True)
        next(running)
        with pytest.raises(Error) as caught:
            next(running)
        assert caught.value is raised
        running = steps(fail=False)
        next(running)
        with pytest.raises(Error) as caught:
            running.throw(raised)
        assert caught.value is raised

        assert [outcome(span) for span in flushed(place)] == ["error", "error"]
        assert nothing_current()

    @pytest.mark.parametrize("leaves", ["break", "close", "collected"])
    def test_left_early_are_partial(self, place: Recorder, leaves: str) -> None:
        """A consumer that stops listening makes a call partial, which is a success; its `finally` blocks have run."""
        done: list[str] = []

        @otel_ml.predict(model="m")
        def steps() -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                assert isinstance(otel_ml.current(), otel_ml.Call)
                done.append("finally")

        running = steps()
        for _ in running:
            break
        assert done == [] or leaves == "break"
        if leaves == "close":
            running.close()  # type: ignore[attr-defined]  # a generator
        del running
        gc.collect()

        assert done == ["finally"]
        (span,) = flushed(place)
        assert outcome(span) == "partial"
        assert span.status.status_code is StatusCode.UNSET
        assert place.value("ml.prediction.errors") == 0
        assert nothing_current()

    def test_never_begun_are_no_call(self, place: Recorder) -> None:
        """A generator that nobody starts has not predicted anything, and leaves nothing running."""
        generator().close()

        assert flushed(place) == []

    def test_that_refuse_to_close(self, place: Recorder) -> None:
        """A generator that yields on GeneratorExit makes Python's own RuntimeError, which is an error."""

        @otel_ml.predict(model="m")
        def stubborn() -> Iterator[int]:
            while True:
                try:
                    yield 1
                except GeneratorExit:
                    yield 2

        running = stubborn()
        next(running)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            running.close()  # type: ignore[attr-defined]  # a generator
        del running

        assert outcome(flushed(place)[0]) == "error"

    def test_called_with_wrong_arguments(self, place: Recorder) -> None:
        """A wrong call raises Python's TypeError, at the first item, and leaves no call running."""
        steps = generator(unexpected=1)  # type: ignore[call-arg]  # that is the point
        with pytest.raises(TypeError, match="unexpected"):
            next(steps)

        flushed(place)
        assert nothing_current()

    def test_are_not_current_in_their_consumer(self, place: Recorder) -> None:
        """The span is current while the generator runs and never while its consumer does, also when several interleave."""
        tracer = trace.get_tracer("app")
        inside: dict[str, set[object]] = {"a": set(), "b": set()}

        @otel_ml.predict(model="m")
        def steps(name: str) -> Iterator[int]:
            for n in range(3):
                inside[name].add(otel_ml.current())
                inside[name].add(trace.get_current_span().get_span_context().span_id)
                yield n

        with otel_ml.predict("consumer") as consumer:
            outer = trace.get_current_span()
            for _ in zip(steps("a"), steps("b"), strict=True):
                assert trace.get_current_span() is outer
                assert otel_ml.current() is consumer
                with tracer.start_as_current_span("its own"):
                    assert otel_ml.current() is consumer
            assert trace.get_current_span() is outer

        spans = flushed(place)
        assert all(len(seen) == 2 for seen in inside.values())
        assert not inside["a"] & inside["b"]
        ids = {span.context.span_id: span for span in spans if span.context}
        assert {ids[one].name for seen in inside.values() for one in seen if isinstance(one, int)} == {"predict m"}
        assert [span.parent for span in spans[:2]] == [outer.get_span_context()] * 2

    def test_keep_their_own_spans_from_step_to_step(self, place: Recorder) -> None:
        """A stage, or a span of the user's own, that is open across a `yield` is current again in the next step."""
        tracer = otel_ml.configure(exporters=[place], set_global=False).tracer_provider.get_tracer("app")

        @otel_ml.predict(model="m")
        def steps() -> Iterator[int]:
            call = otel_ml.current()
            assert isinstance(call, otel_ml.Call)
            with call.stage("inference"):
                yield 1
                with tracer.start_as_current_span("token"):
                    yield 2
                    with tracer.start_as_current_span("inner"):
                        pass
            with tracer.start_as_current_span("after"):
                yield 3

        for n in steps():
            assert nothing_current()
            with tracer.start_as_current_span(f"consumer {n}"):
                pass
        running = steps()
        for n in range(3):
            with tracer.start_as_current_span(f"consumer {n}"):
                next(running)
        running.close()  # type: ignore[attr-defined]  # a generator
        assert nothing_current()

        spans = flushed(place)
        names = {span.context.span_id: span.name for span in spans if span.context}
        parents = {(span.name, names[span.parent.span_id] if span.parent else None) for span in spans}
        assert parents == {
            ("predict m", None), ("predict m", "consumer 0"), ("inference", "predict m"), ("token", "inference"),
            ("inner", "token"), ("after", "predict m"),
            *((f"consumer {n}", None) for n in range(4)),
        }  # fmt: skip

    def test_run_in_one_thread_and_end_in_another(self, place: Recorder) -> None:
        """Steps taken in different threads are one call; no thread keeps its context."""
        running = generator()

        def step() -> None:
            next(running, None)
            assert nothing_current()

        for _ in range(2):
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()

        assert [outcome(span) for span in flushed(place)] == ["success"]

    def test_are_measured_from_first_to_last_item(self, place: Recorder) -> None:
        """The inputs' rows are counted, and the time between the first step and the end is the call's."""

        @otel_ml.predict(model="m")
        def steps(rows: list[list[float]]) -> Iterator[float]:
            for row in rows:
                yield sum(row)

        assert list(steps([[1.0], [2.0], [3.0]])) == [1.0, 2.0, 3.0]
        (span,) = flushed(place)
        assert (span.attributes or {})["ml.prediction.batch.size"] == 3
        assert place.value("ml.prediction.samples") == 3

    @pytest.mark.parametrize("make", ["decorated", "trained", "block", "run"])
    def test_collected_anywhere_leave_memory_alone(self, make: str) -> None:
        """Left in a reference cycle, they are closed wherever garbage is collected: CPython 3.11 does so in `ContextVar.set`."""
        program = """
import contextvars, gc, sys
import otel_ml

other = contextvars.ContextVar("other")

@otel_ml.predict(model="decorated")
def decorated():
    yield 1

@otel_ml.train(model="trained")
def trained():
    for epoch in otel_ml.current(otel_ml.Run).epochs(2):
        yield epoch

def block():
    with otel_ml.predict("block") as call, call.stage("inference"):
        yield 1

def run():
    with otel_ml.train("run") as run, run.evaluate():
        yield 1

@otel_ml.predict(model="m")
def score(n):
    return n

otel_ml.configure(exporters=[], set_global=False)
gc.set_threshold(20)
other.set("here")
for n in range(3_000):
    cycle = [globals()[sys.argv[1]]()]
    next(cycle[0])
    cycle.append(cycle)
    junk = [tuple([k] * k) for k in range(1, 24)]
    score(n)
    now = contextvars.copy_context()
    assert [now[key] for key in now.keys()]
    assert other.get() == "here"
print("whole")
"""
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", program, make],
            env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.strip() == "whole", done.stderr


class TestAsyncGenerators:
    def test_pass_everything_through(self, place: Recorder) -> None:
        """`asend`, `athrow` and a caught exception work as without us."""
        item, sent, thrown = object(), object(), Error()
        log: list[object] = []

        @otel_ml.predict(model="m")
        async def steps() -> AsyncGenerator[object, object]:
            log.append((yield item))
            await asyncio.sleep(0)
            try:
                yield 2
            except Error as error:
                log.append(error)
            yield 3

        async def main() -> None:
            running = steps()
            assert inspect.isasyncgen(running)
            assert await anext(running) is item
            assert await running.asend(sent) == 2
            assert await running.athrow(thrown) == 3
            with pytest.raises(StopAsyncIteration):
                await anext(running)
            assert nothing_current()

        asyncio.run(main())
        assert log == [sent, thrown]
        assert [outcome(span) for span in flushed(place)] == ["success"]

    @pytest.mark.parametrize("leaves", ["break", "aclose", "another task", "collected", "loop ends"])
    def test_left_early_are_partial(self, place: Recorder, leaves: str) -> None:
        """Closed, abandoned, closed in another task, or left over when the loop ends: partial, and the context is whole."""
        done = asyncio.Event()

        @otel_ml.predict(model="m")
        async def steps() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                done.set()

        async def main() -> AsyncIterator[int] | None:
            running = steps()
            async for _ in running:
                assert nothing_current()
                break
            assert nothing_current()
            if leaves == "aclose":
                await running.aclose()  # type: ignore[attr-defined]  # an async generator
            elif leaves == "another task":
                await asyncio.create_task(running.aclose())  # type: ignore[attr-defined]  # likewise
            elif leaves == "loop ends":
                return running
            else:
                del running
                gc.collect()
                await asyncio.wait_for(done.wait(), 10.0)
            assert nothing_current()
            return None

        asyncio.run(main())
        assert done.is_set()
        assert [outcome(span) for span in flushed(place)] == ["partial"]
        assert place.value("ml.prediction.errors") == 0

    def test_that_fail_or_are_cancelled(self, place: Recorder) -> None:
        """An exception arrives as it is and is an error; a cancelled consumer cancels the call."""
        raised = Error()

        @otel_ml.predict(model="m")
        async def steps(fail: bool) -> AsyncIterator[int]:
            yield 1
            if fail:
                raise raised
            await asyncio.Event().wait()

        async def consume(fail: bool) -> None:
            async for _ in steps(fail):
                assert nothing_current()

        async def main() -> None:
            with pytest.raises(Error) as caught:
                await consume(fail=True)
            assert caught.value is raised
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consume(fail=False), 0.01)

        asyncio.run(main())
        assert [outcome(span) for span in flushed(place)] == ["error", "cancelled"]

    def test_called_with_wrong_arguments(self, place: Recorder) -> None:
        """A wrong call raises Python's TypeError and leaves no call running."""

        @otel_ml.predict(model="m")
        async def steps() -> AsyncIterator[int]:
            yield 1

        async def main() -> None:
            with pytest.raises(TypeError, match="unexpected"):
                await anext(steps(unexpected=1))  # type: ignore[call-arg]  # that is the point

        asyncio.run(main())
        flushed(place)
        assert nothing_current()

    def test_interleave_in_one_task(self, place: Recorder) -> None:
        """Two that run in turns in one task are two calls of their own; the task sees neither."""
        inside: dict[str, set[object]] = {"a": set(), "b": set()}

        @otel_ml.predict(model="m")
        async def steps(name: str) -> AsyncIterator[int]:
            for n in range(3):
                await asyncio.sleep(0)
                inside[name].add(otel_ml.current())
                yield n

        async def main() -> None:
            first, second = steps("a"), steps("b")
            for _ in range(3):
                await anext(first)
                await anext(second)
                assert nothing_current()
            async for _ in first:
                pass
            async for _ in second:
                pass

        asyncio.run(main())
        assert [len(seen) for seen in inside.values()] == [1, 1]
        assert not inside["a"] & inside["b"]
        assert len(flushed(place)) == 2


class TestConcurrency:
    def test_gathered_coroutines_do_not_see_each_other(self, place: Recorder) -> None:
        """Each task has its own call, below the one that gathers them."""

        @otel_ml.predict(model="m")
        async def inner(n: int) -> otel_ml.Call | otel_ml.Run | None:
            await asyncio.sleep(0)
            call = otel_ml.current()
            await asyncio.sleep(0.001 * (n % 3))
            assert otel_ml.current() is call
            return call

        @otel_ml.predict(model="outer")
        async def outer() -> None:
            calls = await asyncio.gather(*(inner(n) for n in range(10)))
            assert len({*calls, otel_ml.current()}) == 11

        asyncio.run(outer())
        *children, parent = flushed(place)
        assert [span.parent for span in children] == [parent.context] * 10

    def test_a_thread_by_to_thread_inherits_the_call(self, place: Recorder) -> None:
        """`asyncio.to_thread` carries the current call; a bare thread begins anew."""

        @otel_ml.predict(model="outer")
        async def outer() -> None:
            await asyncio.to_thread(plain)
            thread = threading.Thread(target=plain)
            thread.start()
            thread.join()

        asyncio.run(outer())
        carried, bare, parent = flushed(place)
        assert carried.parent == parent.context
        assert bare.parent is None
        assert bare.context != parent.context

    def test_many_threads_lose_nothing(self, place: Recorder) -> None:
        """Calls of eight threads at once are all counted, with all their rows, and none is left active."""

        @otel_ml.predict(model="m")
        def score(rows: list[list[float]]) -> int:
            return len(rows)

        def run() -> None:
            for n in range(1_000):
                assert score([[1.0]] * (n % 3)) == n % 3

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(flushed(place)) == 8_000
        assert place.value("ml.prediction.duration") == 8_000
        assert sum(point.sum for point in place.points("ml.prediction.batch.size")) == 8 * 999  # type: ignore[union-attr]  # a histogram
        assert place.value("ml.prediction.samples") == 8 * 999

    def test_one_with_object_in_many_threads(self, place: Recorder) -> None:
        """The object that `predict(...)` gives may be entered many times at once, in any order, also recursively."""
        block = otel_ml.predict("m")
        barrier = threading.Barrier(4)

        def run() -> None:
            for _ in range(20):
                barrier.wait()
                with block as call:
                    assert otel_ml.current() is call
                    with block as inner:
                        assert otel_ml.current() is inner is not call
                    barrier.wait()
                    assert otel_ml.current() is call
                assert repr(otel_ml.current()) == "<nothing observed>"

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        spans = flushed(place)
        assert len(spans) == 160
        assert len({span.context.span_id for span in spans if span.context}) == 160
        assert sum(span.parent is None for span in spans) == 80

    def test_recursion(self, place: Recorder) -> None:
        """A function that calls itself makes a chain of spans."""

        @otel_ml.predict(model="m")
        def count(n: int) -> int:
            return 0 if n == 0 else 1 + count(n - 1)

        assert count(50) == 50
        spans = flushed(place)
        assert [span.parent for span in spans] == [*(span.context for span in spans[1:]), None]

    def test_context_variables_of_the_user_survive(self, place: Recorder) -> None:
        """What a function sets in a context variable is there after the call, as without us."""
        variable = contextvars.ContextVar("variable", default=0)

        @otel_ml.predict(model="m")
        def score() -> None:
            variable.set(variable.get() + 1)

        score()
        score()
        assert variable.get() == 2

    def test_what_a_function_leaves_attached_goes(self, place: Recorder) -> None:
        """An OpenTelemetry context that a function attached and forgot does not leak out of its call."""

        @otel_ml.predict(model="m")
        def score() -> None:
            context.attach(context.set_value("left", "behind"))

        score()
        assert context.get_value("left") is None
        assert nothing_current()


class TestTheStateIsTheCurrentOne:
    def test_decorated_before_configure(self) -> None:
        """A decorator runs at import: the function follows what is configured when it is called."""
        place = Recorder()
        decorated = otel_ml.predict(model="m")(lambda: RESULT)
        assert decorated() is RESULT

        otel_ml.configure(exporters=[place], set_global=False)
        assert decorated() is RESULT

        assert len(flushed(place)) == 1

    def test_many_calls_before_configure(self) -> None:
        """However often it ran unconfigured, the first call after `configure()` is seen."""
        place = Recorder()
        kinds = [kind for kind in KINDS if kind not in {"builtin", "with block"}]
        OBSERVED["calls"] = False
        try:
            for _ in range(3_000):
                KINDS["plain"]()
                KINDS["method"]()
            for kind in kinds:
                KINDS[kind]()
        finally:
            OBSERVED["calls"] = True

        otel_ml.configure(exporters=[place], set_global=False)
        for kind in kinds:
            KINDS[kind]()

        assert len(flushed(place)) == len(kinds)

    def test_configured_anew_in_mid_call(self) -> None:
        """A call that began under one configuration ends under it; the next one goes to the new place only."""
        first, second = Recorder(), Recorder()
        otel_ml.configure(exporters=[first], set_global=False)

        @otel_ml.predict(model="m")
        def score(again: bool) -> object:
            if again:
                otel_ml.configure(exporters=[second], set_global=False)
            return RESULT

        @otel_ml.predict(model="g")
        def steps() -> Iterator[int]:
            yield 1
            yield 2

        running = steps()
        next(running)
        assert score(again=True) is RESULT
        assert list(running) == [2]
        assert score(again=False) is RESULT

        assert nothing_current()
        assert len(flushed(second)) == 1
        assert second.value("ml.prediction.duration") == 1
        assert first.spans == []

    def test_shut_down_in_mid_call(self, place: Recorder) -> None:
        """A call that outlives its telemetry returns what it returns, and the context is restored."""

        @otel_ml.predict(model="m")
        def score() -> object:
            otel_ml.shutdown()
            return RESULT

        assert score() is RESULT
        assert nothing_current()
        assert score() is RESULT

    def test_disabled_at_import(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With `OTEL_SDK_DISABLED=true` a decorator returns the very function; blocks and calls still work."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

        assert otel_ml.predict(answer) is answer
        assert otel_ml.predict(model="m", version="1")(answer) is answer
        assert otel_ml.train(answer) is answer
        assert otel_ml.train("m")(answer) is answer
        place = Recorder()
        otel_ml.configure(exporters=[place])
        with otel_ml.predict("m") as call, otel_ml.train("m") as run:
            call.set(a=1)
            run.log(loss=1)
        assert otel_ml.flush()
        assert place.spans == []


def pickled(one: object) -> object:
    """Send an object to another process, as it were."""
    return pickle.loads(pickle.dumps(one))


class TestADecoratedFunction:
    def test_looks_like_the_function(self) -> None:
        """Name, docstring, signature, annotations, module and `__wrapped__` are the function's; so is its kind."""

        def score(rows: list[float], *, tier: str = "gold") -> float:
            """Score."""
            return sum(rows)

        score.marked = True  # type: ignore[attr-defined]  # any attribute
        decorated = otel_ml.predict(model="m")(score)

        assert decorated.__wrapped__ is score  # type: ignore[attr-defined]  # functools' own
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "marked"):
            assert getattr(decorated, name) == getattr(score, name)
        assert inspect.signature(decorated) == inspect.signature(score)
        assert inspect.isgeneratorfunction(otel_ml.predict(generator))
        assert inspect.iscoroutinefunction(Everything.coroutine)
        assert asyncio.iscoroutinefunction(Everything.coroutine)
        assert inspect.isasyncgenfunction(otel_ml.predict(async_steps))
        assert inspect.isfunction(plain)
        assert not inspect.iscoroutinefunction(plain)

    def test_is_bare_named_after_the_function(self, place: Recorder) -> None:
        """Bare `@otel_ml.predict` names the model after function, partial, or class of the callable."""

        @otel_ml.predict
        def classify(text: str) -> str:
            return text

        class Ranker:
            def __call__(self) -> None: ...

        classify("a")
        otel_ml.predict(functools.partial(classify_text, "a"))()
        otel_ml.predict(Ranker())()
        otel_ml.predict()(classify_text)("a")
        assert [span.name for span in flushed(place)] == [
            "predict classify", "predict classify_text", "predict Ranker", "predict classify_text",
        ]  # fmt: skip

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
    def test_can_be_copied_and_pickled(self, place: Recorder, copied: Callable[[object], object]) -> None:
        """Functions at module level, and objects whose methods are decorated, copy and pickle as before, used or not."""
        everything = Everything()
        plain()
        everything.method()

        assert copied(plain) is plain
        again = copied(everything)
        assert isinstance(again, Everything)
        assert again.method() is copied(everything.method)() is RESULT  # type: ignore[operator]  # a bound method
        assert len(flushed(place)) == 4

    def test_is_not_kept_alive(self, place: Recorder) -> None:
        """A decorated function, and an object it belongs to, can be collected."""

        def make() -> tuple[weakref.ref[object], weakref.ref[object]]:
            thing = Everything()
            decorated = otel_ml.predict(model="m")(lambda: thing.method())
            decorated()
            return weakref.ref(thing), weakref.ref(decorated)

        references = make()
        assert otel_ml.flush(10.0)
        place.forget()
        gc.collect()
        assert [one() for one in references] == [None, None]

    def test_does_not_keep_results_alive(self) -> None:
        """A queued span holds neither arguments nor result of its call, however large."""
        place = Recorder(delay=60.0)
        otel_ml.configure(exporters=[place], set_global=False)

        class Large:
            pass

        @otel_ml.predict(model="m")
        def score(rows: object) -> object:
            otel_ml.current()
            return Large()

        rows = Large()
        references = [weakref.ref(rows), weakref.ref(score(rows))]
        with otel_ml.predict("m") as call:
            result = Large()
            call.inputs(rows)
            call.outputs(result)
        references.append(weakref.ref(result))
        del rows, result, call
        gc.collect()

        assert [one() for one in references] == [None, None, None]
        assert place.spans == []

    @pytest.mark.parametrize("used", [False, True])
    @pytest.mark.parametrize("decorator", ["predict", "train"])
    def test_travels_by_cloudpickle(self, tmp_path: Path, used: bool, decorator: str) -> None:
        """Functions of a script reach workers by value (Ray, Spark, joblib) and follow the worker's configuration."""
        cloudpickle = pytest.importorskip("cloudpickle")
        assert cloudpickle
        script = f"""
import subprocess, sys, cloudpickle, otel_ml
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

@otel_ml.{decorator}
def score(n):
    return n + 1

@otel_ml.{decorator}
def steps(n):
    yield n

class Model:
    @otel_ml.{decorator}(model="m")
    def method(self, n):
        return n + 2

def worker():
    kept = InMemorySpanExporter()
    before = [score(1), Model().method(1), *steps(1)]
    with otel_ml.configure(exporters=[SimpleSpanProcessor(kept)]):
        after = [score(1), Model().method(1), *steps(1)]
    return before, after, [span.name for span in kept.get_finished_spans()]

if {used}:
    with otel_ml.configure(exporters=[]):
        worker.__globals__["score"](1), Model().method(1), [*steps(1)]
        sent = cloudpickle.dumps(worker)
else:
    sent = cloudpickle.dumps(worker)
done = subprocess.run([sys.executable, "-c", "import sys, pickle; print(pickle.load(sys.stdin.buffer)())"],
                      input=sent, capture_output=True)
print(done.stdout.decode(), done.stderr.decode())
"""
        path = tmp_path / "script.py"
        path.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, path],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
        )
        expected = [f"{decorator} {name}" for name in ("score", "m", "steps")]
        assert done.stdout.strip() == f"([2, 3, 1], [2, 3, 1], {expected})", done.stdout + done.stderr


def classify_text(text: str) -> str:
    """Something to name a model after."""
    return text


async def async_steps() -> AsyncIterator[int]:
    """An async generator function."""
    yield 1
