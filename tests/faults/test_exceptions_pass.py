"""Promise 1: an exception of the user's passes through untouched: never replaced, swallowed or rewritten."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from opentelemetry import context as context_api
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml
from tests.faults.hostile import ERRORS

# A failure of ours must not show itself by replacing the exception either.
pytestmark = [pytest.mark.faults, pytest.mark.shielded]


@otel_ml.predict
def plain(error: BaseException) -> None:
    """Raise."""
    raise error


@otel_ml.predict(spans=False)
def measured(error: BaseException) -> None:
    """Raise, where there is no span."""
    raise error


@otel_ml.train
def training(error: BaseException) -> None:
    """Raise in a training run."""
    raise error


def _reraise(error: BaseException) -> BaseException:
    raise error


@otel_ml.predict(id=_reraise, output=_reraise)
def asking(error: BaseException) -> None:
    """Raise, where what reads the id raises too."""
    raise error


@otel_ml.predict
async def coroutine(error: BaseException) -> None:
    """Raise in a coroutine, after a switch."""
    await asyncio.sleep(0)
    raise error


@otel_ml.predict
def generator(error: BaseException) -> Iterator[int]:
    """Raise in mid-iteration."""
    yield 1
    raise error


@otel_ml.predict
async def async_generator(error: BaseException) -> AsyncIterator[int]:
    """Raise in mid-iteration."""
    yield 1
    raise error


def in_block(error: BaseException) -> None:
    """Raise through a block, a stage and a labelled call."""
    with otel_ml.predict("block") as call:
        call.label(variant="b")
        with call.stage("inference"):
            raise error


def in_run(error: BaseException) -> None:
    """Raise through everything a run has."""
    with otel_ml.train("run") as run:
        for epoch in run.epochs(2):
            for _ in epoch.batches([1]):
                with epoch.evaluate(), epoch.checkpoint():
                    raise error


def in_loader(error: BaseException) -> None:
    """Raise in the user's own iterator, which we only pass on."""

    def loader() -> Iterator[int]:
        yield 1
        raise error

    with otel_ml.train("run") as run:
        for _ in run.batches(loader()):
            pass


def thrown_in(error: BaseException) -> None:
    """Have the consumer throw into a generator that does not mind, and into one that has just begun."""
    steps = generator(ValueError())
    next(steps)
    steps.throw(error)  # type: ignore[attr-defined]  # a generator


def run_coroutine(error: BaseException) -> None:
    """Drive a coroutine by hand: a loop would treat some exceptions in its own way."""
    drive(coroutine(error))


def run_async_generator(error: BaseException) -> None:
    """Drive an async generator by hand."""

    async def consume() -> None:
        async for _ in async_generator(error):
            pass

    drive(consume())


def drive(steps: object) -> None:
    """Run a coroutine to its end."""
    while True:
        try:
            steps.send(None)  # type: ignore[attr-defined]  # a coroutine
        except StopIteration as stop:
            if stop.value is None:
                return
            raise


PLACES: dict[str, Callable[[BaseException], object]] = {
    "function": plain,
    "function without span": measured,
    "train": training,
    "id= that raises": asking,
    "with block": in_block,
    "run, epoch, batch": in_run,
    "coroutine": run_coroutine,
    "generator": lambda error: list(generator(error)),
    "async generator": run_async_generator,
    "loader": in_loader,
    "thrown into a generator": thrown_in,
}
# Python itself turns these into RuntimeError where a generator or coroutine raises them.
TURNED = {"StopIteration", "StopAsyncIteration"}
GENERATORS = {"coroutine", "generator", "async generator", "loader", "thrown into a generator"}


def caught(raises: Callable[[BaseException], object], error: BaseException) -> BaseException | None:
    """Return what comes out where `error` is raised."""
    try:
        raises(error)
    except BaseException as out:
        return out
    return None


@pytest.fixture(params=["own", "foreign", "unsampled", "unconfigured"])
def configured(request: pytest.FixtureRequest) -> None:
    """Telemetry in each of the forms that take different ways through the code."""
    if request.param == "own":
        otel_ml.configure(exporters=[InMemorySpanExporter()])
    elif request.param == "foreign":
        otel_ml.configure(exporters=[SimpleSpanProcessor(InMemorySpanExporter()), InMemoryMetricReader()])
    elif request.param == "unsampled":
        otel_ml.configure(exporters=[InMemorySpanExporter()], sampling=0.0)


@pytest.mark.parametrize("name", ERRORS)
def test_the_exception_that_comes_out_is_the_one_that_was_raised(name: str, configured: None) -> None:
    """What is caught is what was raised, the same object, with its cause and context as they were."""
    wrong = []
    for place, raises in PLACES.items():
        if name in TURNED and place in GENERATORS:
            continue
        error = ERRORS[name]()
        cause = BaseException.__cause__.__get__(error)  # type: ignore[attr-defined]  # a descriptor
        out = caught(raises, error)
        if out is not error:
            wrong.append(f"{place}: {type(out).__name__}")
        elif BaseException.__cause__.__get__(out) is not cause or BaseException.__context__.__get__(out) is not None:  # type: ignore[attr-defined]  # descriptors
            wrong.append(f"{place}: rewritten")

    assert wrong == []
    assert repr(otel_ml.current()) == "<nothing observed>"
    assert not context_api.get_current()


def test_an_exception_of_any_kind_is_counted_and_its_span_delivered() -> None:
    """However unruly an exception is, its call has a span and is counted as an error or a cancellation."""
    spans = InMemorySpanExporter()
    otel_ml.configure(exporters=[spans])

    for make in ERRORS.values():
        caught(plain, make())

    assert otel_ml.flush()
    assert len(spans.get_finished_spans()) == len(ERRORS)
    assert {str((span.attributes or {})["ml.prediction.outcome"]) for span in spans.get_finished_spans()} == {
        "error",
        "cancelled",
    }
    assert otel_ml.health().failures == {}


def test_an_exception_keeps_no_trace_of_ours_but_the_wrapper() -> None:
    """The traceback goes through the decorator's wrapper and nothing else of ours."""
    otel_ml.configure(exporters=[InMemorySpanExporter()])

    out = caught(plain, ValueError())

    assert out is not None
    files, trace = [], out.__traceback__
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    assert [file for file in files if "otel_ml/" in file and not file.endswith("_wrap.py")] == []


class TestEndlessRecursion:
    def test_it_ends_as_it_does_without_us(self) -> None:
        """A function that calls itself for ever ends with RecursionError, and the context is left as it was."""
        otel_ml.configure(exporters=[InMemorySpanExporter()])

        @otel_ml.predict
        def deeper(depth: int) -> int:
            return deeper(depth + 1)

        # From a different depth each time: the limit is then met in other lines of ours.
        def beneath(levels: int) -> None:
            if levels:
                beneath(levels - 1)
            else:
                with pytest.raises(RecursionError):
                    deeper(0)

        before = sys.getrecursionlimit()
        sys.setrecursionlimit(400)
        try:
            for levels in range(40):
                beneath(levels)
                assert repr(otel_ml.current()) == "<nothing observed>"
                assert not context_api.get_current()
        finally:
            sys.setrecursionlimit(before)

    def test_a_call_right_below_the_limit_is_answered(self) -> None:
        """Wherever the limit is met, a function that returns returns, or the limit is what is raised."""
        otel_ml.configure(exporters=[InMemorySpanExporter()])
        made = object()

        @otel_ml.predict
        def answer(value: object) -> object:
            return made

        def beneath(levels: int) -> object:
            return beneath(levels - 1) if levels else answer([1, 2])

        before = sys.getrecursionlimit()
        sys.setrecursionlimit(400)
        answered, refused = 0, 0
        try:
            for levels in range(250, 400):
                try:
                    assert beneath(levels) is made
                    answered += 1
                except RecursionError:
                    refused += 1
                assert repr(otel_ml.current()) == "<nothing observed>"
                assert not context_api.get_current()
        finally:
            sys.setrecursionlimit(before)

        assert answered
        assert refused
