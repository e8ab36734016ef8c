"""The wrappers that stand on the user's stack: open, call, note, close."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import FunctionType
from typing import Any, Protocol, cast

from otel_ml import _catalog as names
from otel_ml._current import CURRENT
from otel_ml._shield import hold_context

Function = Callable[..., object]


class Watched(Protocol):
    """How a site is observed under one state: a frame is opened, then closed, failed or settled. Nothing raises."""

    @property
    def state(self) -> object: ...
    @property
    def idle(self) -> int: ...
    @idle.setter
    def idle(self, calls: int) -> None: ...

    @property
    def open(self) -> Callable[[tuple[object, ...], dict[str, object]], Any]: ...
    @property
    def close(self) -> Callable[[Any, object], None]: ...
    def finish(self, frame: Any, result: object) -> None: ...
    def fail(self, frame: Any, error: BaseException) -> None: ...
    def enter(self, frame: Any) -> None: ...
    def leave(self, frame: Any) -> None: ...
    def settle(self, frame: Any, result: object, outcome: str = ...) -> None: ...


class Watches(Protocol):
    """A decorated function's options, of `predict` or of `train`."""

    path: Any

    def follow(self) -> Any: ...


def wrap(function: Function, site: Watches) -> Function:
    """Return `function`, observed; of the same kind: plain, coroutine, generator or async generator."""
    kind = kind_of(function)
    if kind == "async generator":
        wrapper: Function = _async_generator(cast("Callable[..., AsyncGenerator[object, object]]", function), site)
    elif kind == "coroutine":
        wrapper = _coroutine(cast("Callable[..., Awaitable[object]]", function), site)
    elif kind == "generator":
        wrapper = _generator(cast("Callable[..., Generator[object, object, object]]", function), site)
    else:
        wrapper = _plain(function, site)
    functools.update_wrapper(wrapper, function)
    # Type checkers are told that the kind of thing stays the same; of a partial that can be kept.
    return functools.partial(wrapper) if isinstance(function, functools.partial) else wrapper


def kind_of(function: Function) -> str:
    """Say what calling `function` gives: "plain" results, or a coroutine, generator or async generator."""
    if type(function) is FunctionType and not hasattr(function, "_is_coroutine_mark"):
        flags = function.__code__.co_flags
        return next((kind for flag, kind in _FLAGS.items() if flags & flag), "plain")
    # Importing `inspect` takes a third of the time that importing this package may take; most functions need none.
    import inspect

    target = cast(
        "object",
        function if inspect.isroutine(function) or isinstance(function, functools.partial) else type(function).__call__,
    )
    if inspect.isasyncgenfunction(target):
        return "async generator"
    if inspect.iscoroutinefunction(target):
        return "coroutine"
    return "generator" if inspect.isgeneratorfunction(target) else "plain"


# CPython's CO_ASYNC_GENERATOR, CO_COROUTINE and CO_GENERATOR, as `inspect` has them.
_FLAGS = {0x200: "async generator", 0x80: "coroutine", 0x20: "generator"}


def _plain(function: Function, site: Watches) -> Function:
    def wrapper(*args: object, **kwargs: object) -> object:
        path = site.path
        if path.state is not CURRENT.state:
            path = site.follow()
        if path.idle:
            path.idle -= 1
            return function(*args, **kwargs)
        # Read, then called: CPython 3.11 specialises reading a slot, but not a method call on one (15 ns each).
        opens = path.open
        frame = opens(args, kwargs)
        if frame is None:
            return function(*args, **kwargs)
        closes = path.close
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            path.fail(frame, error)
            raise
        closes(frame, result)
        return result

    return wrapper


def _coroutine(function: Callable[..., Awaitable[object]], site: Watches) -> Function:
    async def wrapper(*args: object, **kwargs: object) -> object:
        path = _path(site)
        frame = path.open(args, kwargs)
        if frame is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            path.fail(frame, error)
            raise
        path.finish(frame, result)
        return result

    return wrapper


def _generator(function: Callable[..., Generator[object, object, object]], site: Watches) -> Function:
    def wrapper(*args: object, **kwargs: object) -> Generator[object, object, object]:
        steps = function(*args, **kwargs)
        path = _path(site)
        frame = path.open(args, kwargs)
        if frame is None:
            return (yield from steps)
        path.leave(frame)
        advance: Callable[[], object] = steps.__next__
        while True:
            # The span is current only while the generator runs, not while its consumer does.
            path.enter(frame)
            try:
                item = advance()
            except StopIteration as stop:
                path.finish(frame, stop.value)
                return stop.value
            except BaseException as error:
                path.fail(frame, error)
                raise
            path.leave(frame)
            try:
                sent = yield item
                advance = steps.__next__ if sent is None else functools.partial(steps.send, sent)
            except GeneratorExit:
                hold_context()
                path.enter(frame)
                try:
                    # From Python 3.13 on, what the generator returns when it is closed.
                    value = cast("Callable[[], object]", steps.close)()
                except BaseException as error:
                    path.fail(frame, error)
                    raise
                path.leave(frame)
                path.settle(frame, None, names.PARTIAL)
                if value is not None:
                    return value
                raise
            except BaseException as error:
                advance = functools.partial(steps.throw, error)

    return wrapper


def _async_generator(function: Callable[..., AsyncGenerator[object, object]], site: Watches) -> Function:
    async def wrapper(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        steps = function(*args, **kwargs)
        path = _path(site)
        frame = path.open(args, kwargs)
        if frame is not None:
            path.leave(frame)
        advance: Callable[[], object] = functools.partial(_first, steps)
        while True:
            if frame is not None:
                path.enter(frame)
            try:
                item = await advance()  # type: ignore[misc]  # __anext__, asend and athrow give awaitables
            except StopAsyncIteration:
                if frame is not None:
                    path.finish(frame, None)
                return
            except BaseException as error:
                if frame is not None:
                    path.fail(frame, error)
                raise
            if frame is not None:
                path.leave(frame)
            try:
                sent = yield item
                advance = steps.__anext__ if sent is None else functools.partial(steps.asend, sent)
            except GeneratorExit:
                hold_context()
                await _close(steps, path, frame)
                raise
            except BaseException as error:
                advance = functools.partial(steps.athrow, error)

    return wrapper


def _first(steps: AsyncGenerator[object, object]) -> object:
    """Begin, unknown to the event loop: it closes the wrapper, and two would close what the wrapper closes."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return steps.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def _close(steps: AsyncGenerator[object, object], path: Watched, frame: object) -> None:
    if frame is None:
        await steps.aclose()
        return
    path.enter(frame)
    try:
        await steps.aclose()
    except BaseException as error:
        path.fail(frame, error)
        raise
    path.leave(frame)
    path.settle(frame, None, names.PARTIAL)


def _path(site: Watches) -> Watched:
    """Return how the site is observed now."""
    path: Watched = site.path
    if path.state is not CURRENT.state or path.idle:
        path = site.follow()
    return path
