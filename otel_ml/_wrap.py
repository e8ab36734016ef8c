"""The wrappers that stand on the user's stack: open, call, note, close."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, cast

from otel_ml import _catalog as names
from otel_ml._current import CURRENT

if TYPE_CHECKING:
    from otel_ml._observe import Path
    from otel_ml._site import Site

Function = Callable[..., object]


def wrap(function: Function, site: Site) -> Function:
    """Return `function`, observed; of the same kind: plain, coroutine, generator or async generator."""
    target = function if inspect.isroutine(function) or isinstance(function, functools.partial) else type(function).__call__
    if inspect.isasyncgenfunction(target):
        wrapper: Function = _async_generator(cast("Callable[..., AsyncGenerator[object, object]]", function), site)
    elif inspect.iscoroutinefunction(target):
        wrapper = _coroutine(function, site)
    elif inspect.isgeneratorfunction(target):
        wrapper = _generator(cast("Callable[..., Generator[object, object, object]]", function), site)
    else:
        wrapper = _plain(function, site)
    return functools.update_wrapper(wrapper, function)


def _plain(function: Function, site: Site) -> Function:
    def wrapper(*args: object, **kwargs: object) -> object:
        state = CURRENT.state
        if state is None and site.idle:
            site.idle -= 1
            return function(*args, **kwargs)
        path = site.path
        if path is None or path.state is not state:
            path = site.follow(state)
            if path is None:
                return function(*args, **kwargs)
        frame = path.open(args, kwargs)
        if frame is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            path.fail(frame, error)
            raise
        path.close(frame, result)
        return result

    return wrapper


def _coroutine(function: Function, site: Site) -> Function:
    async def wrapper(*args: object, **kwargs: object) -> object:
        path = _path(site)
        frame = path.open(args, kwargs) if path is not None else None
        if path is None or frame is None:
            return await function(*args, **kwargs)  # type: ignore[misc]  # a coroutine function
        try:
            result: object = await function(*args, **kwargs)  # type: ignore[misc]  # likewise
        except BaseException as error:
            path.fail(frame, error)
            raise
        path.finish(frame, result)
        return result

    return wrapper


def _generator(function: Callable[..., Generator[object, object, object]], site: Site) -> Function:
    def wrapper(*args: object, **kwargs: object) -> Generator[object, object, object]:
        path = _path(site)
        frame = path.open(args, kwargs) if path is not None else None
        if path is None or frame is None:
            return (yield from function(*args, **kwargs))
        path.leave(frame)
        steps = function(*args, **kwargs)
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
                path.enter(frame)
                try:
                    steps.close()
                except BaseException as error:
                    path.fail(frame, error)
                    raise
                path.leave(frame)
                path.settle(frame, None, names.PARTIAL)
                raise
            except BaseException as error:
                advance = functools.partial(steps.throw, error)

    return wrapper


def _async_generator(function: Callable[..., AsyncGenerator[object, object]], site: Site) -> Function:
    async def wrapper(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        path = _path(site)
        frame = path.open(args, kwargs) if path is not None else None
        steps = function(*args, **kwargs)
        if path is not None and frame is not None:
            path.leave(frame)
        advance: Callable[[], object] = steps.__anext__
        while True:
            if path is not None and frame is not None:
                path.enter(frame)
            try:
                item = await advance()  # type: ignore[misc]  # __anext__, asend and athrow give awaitables
            except StopAsyncIteration:
                if path is not None and frame is not None:
                    path.finish(frame, None)
                return
            except BaseException as error:
                if path is not None and frame is not None:
                    path.fail(frame, error)
                raise
            if path is not None and frame is not None:
                path.leave(frame)
            try:
                sent = yield item
                advance = steps.__anext__ if sent is None else functools.partial(steps.asend, sent)
            except GeneratorExit:
                await _close(steps, path, frame)
                raise
            except BaseException as error:
                advance = functools.partial(steps.athrow, error)

    return wrapper


async def _close(steps: AsyncGenerator[object, object], path: Path | None, frame: object) -> None:
    if path is None or frame is None:
        await steps.aclose()
        return
    path.enter(frame)  # type: ignore[arg-type]  # what path.open gave
    try:
        await steps.aclose()
    except BaseException as error:
        path.fail(frame, error)  # type: ignore[arg-type]  # likewise
        raise
    path.leave(frame)  # type: ignore[arg-type]  # likewise
    path.settle(frame, None, names.PARTIAL)  # type: ignore[arg-type]  # likewise


def _path(site: Site) -> Path | None:
    """Return how the site is observed now, or None."""
    state = CURRENT.state
    if state is None and site.idle:
        site.idle -= 1
        return None
    path = site.path
    return path if path is not None and path.state is state else site.follow(state)
