"""Handle fifty secrets wherever a program has some, with everything at its defaults and all logs at DEBUG."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator

import otel_ml

asked = json.loads(sys.argv[1])
secrets: list[str] = asked["secrets"]
following = iter(secrets[: asked["data"]])


def secret() -> str:
    """Return a secret that has not been used yet."""
    return next(following)


logging.basicConfig(level=logging.DEBUG, filename=asked["log"], format="%(name)s %(message)s %(exc_info)s")


class Record:
    """Holds a secret in every way in which an object can show one."""

    def __init__(self) -> None:
        self.held = secret()
        self.text = secret()

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __iter__(self) -> Iterator[str]:
        return iter((self.text,))


class OwnError(Exception):
    """An exception with secrets in its arguments, notes and attributes."""

    def __init__(self) -> None:
        super().__init__(secret(), {"key": secret()})
        self.detail = secret()
        self.add_note(secret())


telemetry = otel_ml.configure(
    service="secretive",
    exporters=[
        otel_ml.exporters.OTLP(endpoint, headers={"api-key": asked["header"], "authorization": asked["token"]})
        for endpoint in asked["endpoints"]
    ]
    + [otel_ml.exporters.Local(asked["store"]), otel_ml.exporters.Console()],
)
print(telemetry, otel_ml.exporters.OTLP(asked["endpoints"][0], headers={"api-key": asked["header"]}))


@otel_ml.predict
def plain(*args: object, **kwargs: object) -> object:
    """Take and return secrets."""
    local = secret()
    return [*args, kwargs, local]


@otel_ml.predict
def failing(*args: object) -> None:
    """Raise with secrets, from another exception with more of them."""
    try:
        raise KeyError(secret())
    except KeyError as error:
        raise OwnError from error


@otel_ml.predict
async def coroutine(text: str) -> str:
    """Take and return a secret."""
    return text + secret()


@otel_ml.predict
def generator(text: str) -> Iterator[str]:
    """Yield and return secrets."""
    yield text
    yield secret()
    return secret()


@otel_ml.predict
async def async_generator(text: str) -> AsyncIterator[str]:
    """Yield secrets."""
    yield text
    yield secret()


@otel_ml.predict(id=lambda *_: _fail(), at=lambda *_: _fail(), output=lambda _: _fail())
def unreadable(text: str) -> str:
    """Take a secret, where what is asked of us fails with secrets."""
    return text


def _fail() -> object:
    raise ValueError(secret())


@otel_ml.train
def training(data: object) -> None:
    """Train on secrets, and fail with one."""
    run = otel_ml.current()
    assert isinstance(run, otel_ml.Run)
    for epoch in run.epochs([secret()]):
        for _ in epoch.batches([[secret()], {"rows": [secret()]}, Record()]):
            run.log(loss=0.5)
        with run.evaluate(), run.checkpoint():
            raise RuntimeError(secret())


async def consume() -> None:
    """Drive what is asynchronous."""
    await coroutine(secret())
    async for _ in async_generator(secret()):
        pass


def everything() -> None:
    """Do it all once."""
    plain(secret(), [secret()], {secret(): secret()}, Record(), word=secret(), more={"deep": [secret()]})
    plain([Record(), Record()])
    for _ in range(3):
        try:
            failing(secret())
        except OwnError:
            pass
    list(generator(secret()))
    asyncio.run(consume())
    unreadable(secret())
    with otel_ml.predict("block") as call:
        call.inputs([[secret()], [secret()]])
        # What is asked for is exported; without it, this program would prove nothing.
        call.set(note=asked["public"])
        with call.stage("inference"):
            call.outputs({"class": secret(), "record": Record()})
    try:
        with otel_ml.predict("failing block") as call, call.stage("inference"):
            raise OwnError
    except OwnError:
        pass
    try:
        training([secret()])
    except RuntimeError:
        pass


everything()
left = list(following)
telemetry.flush(2.0)
print(otel_ml.health())
print(json.dumps({"unused": len(left)}))
print(time.monotonic(), flush=True)
