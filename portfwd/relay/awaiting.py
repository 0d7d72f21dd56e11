# -*- test-case-name: tests.relay.test_awaiting -*-
"""
Waits for the awaitables of filters without changing them.

Several sessions may await the same Deferred, for example from a cache. A Deferred is therefore only observed:
each waiter gets the result, the Deferred keeps it for later callbacks, and it is never cancelled. One
observer serves all sessions of a rule, and a session that ends leaves nothing in it.

A coroutine belongs to the session that awaits it. It is run here step by step, and the Deferreds that it
awaits are observed likewise. If the session ends first, the coroutine is closed: its ``finally`` blocks run,
and the awaited Deferred continues. Under Twisted's asyncio reactor a coroutine runs as an asyncio task to its
end in any case, and may await Deferreds and futures of asyncio. Under other reactors, awaiting objects of
asyncio fails, because there is no loop.

This module calls no filter; the session does.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: Called once, perhaps at once, with a result or an exception.
Told = Callable[[object, "BaseException | None"], None]

_NEEDS_LOOP: Final = (
    "asyncio's futures and coroutines need Twisted's asyncio reactor: start with twistd --reactor=asyncio"
)


class Waiting(Protocol):
    """One awaitable of a session."""

    def forget(self) -> None:
        """Ignore the result. May raise an exception of a coroutine that is closed."""

    def handled(self) -> None:
        """The result was delivered: an exception need not be logged as unhandled. Called in a later turn."""


class Results:
    """The awaitables of the sessions of a rule."""

    def __init__(self) -> None:
        self._watches: WeakKeyDictionary[Deferred[object], _Watch] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Results of {len(self._watches)} Deferreds>"

    def wait(self, awaitable: Awaitable[object], told: Told) -> Waiting:
        """Call `told` with the result of `awaitable`."""
        deferred = _as_deferred(awaitable)
        if deferred is not None:
            return _OfDeferred(deferred, self._watch(deferred), told)
        loop = _running_loop()
        if asyncio.isfuture(awaitable):
            if loop is None:
                told(None, TypeError(_NEEDS_LOOP))
                return _Nothing()
            return _OfFuture(awaitable, told)
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _result_of(awaitable)
        if loop is None:
            return _OfCoroutine(self, coroutine, told)
        return _OfFuture(
            loop.create_task(_result_of(_as_task(self, loop, coroutine))),
            lambda pair, error: told(*pair) if error is None else told(None, error),  # type: ignore[misc]
        )

    def _watch(self, deferred: Deferred[object]) -> _Watch:
        watch = self._watches.get(deferred)
        if watch is None or watch.over:
            watch = self._watches[deferred] = _Watch()
            deferred.addBoth(watch.fired)
        return watch


class _Watch:
    """
    One observer in the callbacks of a Deferred, for all waiters.

    :ivar over: whether it has fired. A later waiter adds another observer.
    """

    __slots__ = ("outcome", "over", "told")

    def __init__(self) -> None:
        self.over = False
        self.outcome: object = None
        self.told: dict[object, Told] = {}

    def fired(self, outcome: object) -> object:
        """Call all waiters. The Deferred keeps its result."""
        self.over = True
        self.outcome = outcome
        told, self.told = self.told, {}
        for one in told.values():
            _tell(one, outcome)
        return outcome


class _OfDeferred:
    """Waits for a Deferred."""

    __slots__ = ("_deferred", "_watch")

    def __init__(self, deferred: Deferred[object], watch: _Watch, told: Told) -> None:
        self._deferred = deferred
        self._watch = watch
        if watch.over:
            _tell(told, watch.outcome)
        else:
            watch.told[self] = told

    def forget(self) -> None:
        self._watch.told.pop(self, None)

    def handled(self) -> None:
        # Awaiting a failed Deferred marks the failure as handled without changing it. If callbacks of the
        # owner have turned it into another failure or a Deferred, that belongs to the owner.
        failure = _as_failure(self._watch.outcome)
        if failure is not None and self._deferred.result is failure:
            next(_failed_quietly(self._deferred), None)


class _OfFuture:
    """Waits for a future of asyncio that belongs to other code."""

    __slots__ = ("_future", "_told")

    def __init__(self, future: asyncio.Future[Any], told: Told) -> None:
        self._future = future
        self._told = told
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._told(None, asyncio.CancelledError())
            return
        error = future.exception()
        self._told(None if error is not None else future.result(), error)

    def forget(self) -> None:
        self._future.remove_done_callback(self._done)

    def handled(self) -> None:
        """Do nothing: the exception was retrieved from the future."""


class _Nothing:
    """An object that cannot be awaited."""

    __slots__ = ()

    def forget(self) -> None:
        """Do nothing."""

    def handled(self) -> None:
        """Do nothing: the exception was made here."""


class _OfCoroutine:
    """
    Runs a coroutine that awaits Deferreds.

    A Deferred calls its observer before its failure can be awaited, so the failure is thrown into the
    coroutine here. It is marked as handled later: at the next step, or when the session was called.
    """

    __slots__ = ("_context", "_coroutine", "_failed", "_results", "_running", "_told", "_waiting")

    def __init__(self, results: Results, coroutine: Coroutine[Any, Any, object], told: Told) -> None:
        self._results = results
        self._coroutine = coroutine
        self._told: Told | None = told
        self._context = contextvars.copy_context()
        self._waiting: Waiting | None = None
        self._failed: Waiting | None = None
        self._running = False
        self._step(partial(coroutine.send, None))

    def _step(self, resume: Callable[[], object]) -> None:
        if self._told is None:
            return
        self._waiting = None
        self._running = True
        try:
            waited = self._context.run(resume)
        except StopIteration as stop:
            self._tell(stop.value, None)
        except BaseException as error:
            self._tell(None, _in_plain_words(error))
        else:
            if self._told is not None:
                self._wait_for(waited)
        finally:
            self._running = False
        if self._told is None:
            self._coroutine.close()

    def _wait_for(self, waited: object) -> None:
        deferred = _as_deferred(waited)
        if deferred is not None:
            self._waiting = self._results.wait(deferred, self._resume)
            return
        what = _NEEDS_LOOP if asyncio.isfuture(waited) else "a coroutine may await coroutines and Deferreds"
        self._step(partial(self._coroutine.throw, TypeError(what)))

    def _resume(self, result: object, error: BaseException | None) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            failed.handled()
        if error is None:
            self._step(partial(self._coroutine.send, None))
        else:
            self._failed = self._waiting
            self._step(partial(self._coroutine.throw, error))

    def _tell(self, result: object, error: BaseException | None) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(result, error)

    def forget(self) -> None:
        self._told = None
        if self._waiting is not None:
            self._waiting.forget()
        if not self._running:
            self.handled()
            self._coroutine.close()

    def handled(self) -> None:
        """Mark the failure that the coroutine has received as handled."""
        failed, self._failed = self._failed, None
        if failed is not None:
            failed.handled()


@types.coroutine
@types.coroutine
def _as_task(
    results: Results, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object]
) -> Generator[Any, Any, tuple[object, BaseException | None]]:
    """
    Run `coroutine` in a task of asyncio, in which it may also await Deferreds.

    :returns: its result or its exception. No exception leaves the task, because asyncio stops the loop for
        `SystemExit`.
    """
    resume: Callable[[], object] = partial(coroutine.send, None)
    while True:
        try:
            waited = resume()
        except StopIteration as stop:
            return stop.value, None
        except BaseException as error:
            return None, error
        resume = partial(coroutine.send, None)
        try:
            deferred = _as_deferred(waited)
            if deferred is not None:
                yield from _future_of(results, loop, deferred)
            else:
                yield waited
        except BaseException as error:
            resume = partial(coroutine.throw, error)


def _future_of(
    results: Results, loop: asyncio.AbstractEventLoop, deferred: Deferred[object]
) -> asyncio.Future[None]:
    """A future that is done when `deferred` has fired."""
    future: asyncio.Future[None] = loop.create_future()

    def fired(result: object, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(None)

    results.wait(deferred, fired)
    return future


async def _result_of(awaitable: Awaitable[object]) -> object:
    # A filter may return any awaitable.
    return await awaitable


def _failed_quietly(deferred: Deferred[object]) -> Generator[object, None, None]:
    try:
        yield from deferred.__await__()
    except BaseException:  # noqa: S110 - it was told already; this only marks it as seen
        pass


def _as_deferred(awaitable: object) -> Deferred[Any] | None:
    return awaitable if isinstance(awaitable, Deferred) else None


def _as_failure(outcome: object) -> Failure | None:
    return outcome if isinstance(outcome, Failure) else None


def _tell(told: Told, outcome: object) -> None:
    failure = _as_failure(outcome)
    if failure is not None:
        told(None, failure.value)
    else:
        told(outcome, None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop of asyncio, which exists under Twisted's asyncio reactor."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _in_plain_words(error: BaseException) -> BaseException:
    """`error`, or a clearer one if asyncio only reports a missing loop."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        better = TypeError(_NEEDS_LOOP)
        better.__cause__ = error
        return better
    return error
