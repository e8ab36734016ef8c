"""Uses the whole public API; never run, only checked: types must survive decoration exactly."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, assert_type, overload

import numpy as np
import numpy.typing as npt
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

import otel_ml
from otel_ml import exporters


# ---------------------------------------------------------------------------------------------- predict
@otel_ml.predict
def bare(text: str, *, limit: int = 3) -> list[str]:
    return [text] * limit


assert_type(bare("a", limit=2), list[str])
kept: Callable[[str], list[str]] = bare


def label(result: dict[str, int]) -> int:
    return result["label"]


@otel_ml.predict(model="churn", version="3.2", id="transaction", output=label, at="day", labels={"v": "a"})
def named(transaction: str, day: str, rows: list[float]) -> dict[str, int]:
    return {"label": len(rows)}


assert_type(named("a", "b", [1.0]), dict[str, int])


@otel_ml.predict("churn", spans=False)
async def coroutine(x: int) -> float:
    return float(x)


async def uses_coroutine() -> None:
    assert_type(await coroutine(1), float)
    later: Callable[[int], Coroutine[Any, Any, float]] = coroutine
    assert_type(await later(1), float)


@otel_ml.predict()
def generator(n: int) -> Iterator[str]:
    yield str(n)


assert_type(generator(1), Iterator[str])


@otel_ml.predict
async def async_generator(n: int) -> AsyncIterator[str]:
    yield str(n)


assert_type(async_generator(1), AsyncIterator[str])


class Model:
    @otel_ml.predict
    def method(self, x: int) -> str:
        return str(x)

    @otel_ml.predict(model="m")
    @classmethod
    def above_class(cls, x: int) -> str:
        return str(x)

    @classmethod
    @otel_ml.predict
    def below_class(cls, x: int) -> str:
        return str(x)

    @otel_ml.predict
    @staticmethod
    def above_static(x: int) -> str:
        return str(x)

    @staticmethod
    @otel_ml.predict(model="m")
    def below_static(x: int) -> str:
        return str(x)

    @property
    @otel_ml.predict
    def computed(self) -> int:
        return 1

    def __call__(self, x: int) -> bytes:
        return bytes(x)


assert_type(Model().method(1), str)
assert_type(Model.above_class(1), str)
assert_type(Model.below_class(1), str)
assert_type(Model.above_static(1), str)
assert_type(Model.below_static(1), str)
assert_type(Model().computed, int)
assert_type(otel_ml.predict(Model()), Model)
assert_type(otel_ml.predict(model="m")(Model())(1), bytes)
assert_type(otel_ml.predict(functools.partial(int, base=2)), functools.partial[int])

with otel_ml.predict("churn", version="3.2") as call:
    assert_type(call, otel_ml.Call)
    call.inputs([[1.0]])
    call.outputs([0])
    call.set(tier="gold", depth=3, share=0.5, tags=["a", "b"])
    call.label(variant="b")
    with call.stage("preprocess"):
        pass
    call.id = "order-17"
    assert_type(call.id, str)
    assert_type(call.ids([1, 2]), list[str])
    call.at = "2015-12-31"

assert_type(otel_ml.current(), otel_ml.Call | otel_ml.Run)
assert_type(otel_ml.current(otel_ml.Call), otel_ml.Call)
assert_type(otel_ml.current(otel_ml.Run), otel_ml.Run)
otel_ml.current().set(tier="gold")
otel_ml.feedback("order-17", actual=True)
otel_ml.feedback(["a", "b"], actual=[1, 0], predicted=[1, 1], score=[0.9, 0.8], model="churn", version="3.2", at="2016")


# ---------------------------------------------------------------------------------------------- train
@otel_ml.train
def fit(epochs: int) -> float:
    return float(epochs)


assert_type(fit(3), float)


@otel_ml.train(model="churn", params={"lr": 1e-3})
async def fit_later(epochs: int) -> float:
    return float(epochs)


async def uses_fit_later() -> None:
    assert_type(await fit_later(3), float)


with otel_ml.train("churn", version="3.3", params={"lr": 1e-3}, labels={"team": "a"}) as run:
    assert_type(run, otel_ml.Run)
    assert_type(run.id, str)
    for epoch in run.epochs(20):
        assert_type(epoch, otel_ml.Epoch)
        for batch in epoch.batches([(1, "a"), (2, "b")]):
            assert_type(batch, tuple[int, str])
            run.log(loss=0.5)
            run.log({"learning_rate": 1e-3, "note": "warm"}, step=3)
        with epoch.evaluate("validation"):
            pass
        with run.checkpoint():
            pass
        epoch.log(val_loss=0.4, val_accuracy=1)


# ---------------------------------------------------------------------------------------------- configure
telemetry = otel_ml.configure(
    service="churn-api",
    exporters=[
        exporters.OTLP(
            "http://localhost:4318", protocol="http/protobuf", headers={"authorization": "x"}, compression="gzip"
        ),
        exporters.Console(),
        exporters.Local(),
        ConsoleSpanExporter(),
        BatchSpanProcessor(ConsoleSpanExporter()),
        ConsoleMetricExporter(),
        InMemoryMetricReader(),
        lambda: ConsoleSpanExporter(),
    ],
    sampling=0.5,
    keep_slower_than=None,
    interval=5,
    resource={"deployment.environment.name": "prod"},
    tracer_provider=TracerProvider(),
    meter_provider=MeterProvider([]),
    join=True,
    set_global=False,
    current=False,
)
assert_type(telemetry, otel_ml.Telemetry)
assert_type(telemetry.flush(timeout=1.0), bool)
assert_type(telemetry.shutdown(timeout=1.0), bool)
assert_type(telemetry.health(), otel_ml.Health)
assert_type(telemetry.tracer_provider, trace.TracerProvider)
assert_type(telemetry.meter_provider, metrics.MeterProvider)
assert_type(telemetry.logger_provider, _logs.LoggerProvider)
with telemetry.use() as used:
    assert_type(used, otel_ml.Telemetry)
with telemetry as entered:
    assert_type(entered, otel_ml.Telemetry)
assert_type(otel_ml.flush(1.0), bool)
assert_type(otel_ml.shutdown(), bool)
assert_type(otel_ml.health().dropped, int)

settings: dict[str, Any] = {"service": "churn-api"}
otel_ml.configure(**settings)
exporters.Merging(ConsoleMetricExporter())


# ---------------------------------------------------------------------------------------------- every kind of function
T = TypeVar("T")
P = ParamSpec("P")


@otel_ml.predict(model="churn", id="transaction", output=lambda result: result["label"])
def with_output(transaction: str) -> dict[str, str]:
    return {"label": transaction}


assert_type(with_output("a"), dict[str, str])


@otel_ml.predict(model="churn", id=lambda key, rows: f"{key}-{rows[0]}", at=lambda key, rows: rows[1])
def with_parts(key: str, rows: list[str]) -> str:
    return key


assert_type(with_parts("a", ["b"]), str)


@otel_ml.predict
def generic(value: T) -> list[T]:
    return [value]


assert_type(generic(1), list[int])
assert_type(generic("a"), list[str])


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
@otel_ml.predict
def either(x: int | str) -> int | str:
    return x


assert_type(either(1), int)
assert_type(either("a"), str)


class Scores(Protocol):
    def __call__(self, rows: list[float], *, tier: str = "gold") -> float: ...


@otel_ml.predict(model="m")
def keyword(rows: list[float], *, tier: str = "gold") -> float:
    return sum(rows) + len(tier)


scores: Scores = keyword


@otel_ml.predict
def full_generator(n: int) -> Generator[int, str, float]:
    sent = yield n
    return float(len(sent))


assert_type(full_generator(1), Generator[int, str, float])


@otel_ml.predict(model="m")
async def full_async_generator(n: int) -> AsyncGenerator[int, str]:
    sent = yield n
    assert sent


assert_type(full_async_generator(1), AsyncGenerator[int, str])


class Trainer(Generic[T]):
    @otel_ml.predict(model="m")
    def method(self, x: T) -> T:
        return x

    @otel_ml.train
    def fit(self, x: T) -> Iterator[T]:
        yield x

    @otel_ml.train(model="m")
    async def fit_later(self, x: T) -> AsyncIterator[T]:
        yield x

    @otel_ml.train("m", version="1")
    @classmethod
    def above_class(cls) -> type[Trainer[T]]:
        return cls

    @staticmethod
    @otel_ml.train("m", params={"depth": 3}, labels={"team": "a"})
    def below_static(x: int) -> str:
        return str(x)


assert_type(Trainer[int]().method(1), int)
assert_type(Trainer[int]().fit(1), Iterator[int])
assert_type(Trainer[int]().fit_later(1), AsyncIterator[int])
assert_type(Trainer.below_static(1), str)

partial = otel_ml.predict(model="m")(functools.partial(keyword, [1.0]))
assert_type(partial, functools.partial[float])
assert_type(partial(), float)
assert_type(otel_ml.predict(len)([1]), int)


def decorate(function: Callable[P, T]) -> Callable[P, T]:
    return otel_ml.predict(model="m")(function)


def decorate_bare(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    return otel_ml.predict(function)


# ---------------------------------------------------------------------------------------------- numpy
@otel_ml.predict(model="m")
def of_arrays(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows


assert_type(of_arrays(np.zeros(3)), npt.NDArray[np.float64])
otel_ml.feedback(np.array(["a"]), actual=np.array([1]))
otel_ml.feedback(5, actual=np.int64(3), predicted=np.float64(0.5), score=np.float32(0.1))
with otel_ml.predict("m", output=lambda result: result.argmax()) as array_call:
    array_call.inputs(np.zeros((2, 2)))
    array_call.outputs(np.zeros(2))
    array_call.set(shape=(1, 2), score=np.float64(0.5))
    array_call.label(flag=True, share=0.5, n=3)
    assert_type(array_call.ids(np.array([1, 2])), list[str])
    array_call.id = 5
    array_call.at = 1_401_969_600

with otel_ml.train("m") as array_run:
    array_run.log(loss=np.float32(0.5), other=np.array(3.0), nothing=None, text="a")
    for epoch in array_run.epochs(["a", "b"], start=3):
        assert_type(epoch.index, int)
        for features, target in epoch.batches([(np.zeros(3), 1)]):
            assert features.shape
            assert_type(target, int)
    for letter in array_run.batches(iter("abc")):
        assert_type(letter, str)
