"""Coroutines are watched like functions: calls that run at the same time stay apart, cancelled ones are no errors."""

import asyncio
import sys

import otel_ml
from otel_ml import exporters

otel_ml.configure(service="router", exporters=[exporters.Console(sys.stdout)])


@otel_ml.predict(model="embedding")
async def embed(text: str) -> list[float]:
    await asyncio.sleep(0.01)
    return [len(text) / 10, text.count(" ") / 10]


@otel_ml.predict(model="intent", version="7", output=str)
async def intent(text: str) -> str:
    # A call of its own, and the parent of the one inside it.
    size, spaces = await embed(text)
    otel_ml.current().label(length="long" if size > 1 else "short")
    return "question" if text.endswith("?") else f"statement of {round(spaces * 10) + 1} words"


async def main() -> None:
    print(await asyncio.gather(intent("Is it raining?"), intent("It rains"), intent("It has rained all day")))

    given_up = asyncio.create_task(intent("Never mind"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)


asyncio.run(main())
