# -*- test-case-name: tests.relay.test_awaiting -*-
"""
Waiting for what filters await, without touching it.

A filter may await a Deferred that others await too: a cache hands one out to many sessions. So a Deferred is
observed: each waiter gets the result as it is, the Deferred keeps it for whoever comes next, and nothing is
cancelled. One observer serves all sessions of a rule, and a session that ends leaves nothing behind in it.

A coroutine belongs to the session that awaits it. It is run here, step by step; the Deferreds that it awaits
are observed in the same way. If the session ends first, the coroutine is closed: its ``finally`` blocks
run, and what it waited for goes on. Under Twisted's asyncio reactor a coroutine is an asyncio task, which
runs to its end in any case; it may await Deferreds and asyncio's futures alike. Under other reactors asyncio
has no loop, and awaiting what is asyncio's fails.

It calls no filter: the session does, with what it is told here.
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

#: Gets a result, or the exception that was raised instead of one; called once, perhaps at once.
Told = Callable[[object, "BaseException | None"], None]

_NEEDS_LOOP: Final = (
    "asyncio's futures and coroutines need Twisted's asyncio reactor: start with twistd --reactor=asyncio"
)


class Waiting(Protocol):
    """One awaitable that a session waits for."""

    def forget(self) -> None:
        """The result is not wanted any more. May raise what a coroutine raises when it is closed."""

    def handled(self) -> None:
        """The outcome was told: nobody needs to log an exception as unhandled. Called in a later turn."""


class Results:
    """What the sessions of a rule wait for."""

    def __init__(self) -> None:
        self._watches: WeakKeyDictionary[Deferred[object], _Watch] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Results of {len(self._watches)} Deferreds>"

    def wait(self, awaitable: Awaitable[object], told: Told) -> Waiting:
        """Tell `told` what becomes of `awaitable`."""
        if isinstance(awaitable, Deferred):
            return _OfDeferred(awaitable, self._watch(awaitable), told)
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
    One observer in a Deferred's chain, for all who wait for it.

    :ivar over: it has fired; who comes now adds another one, behind it in the chain.
    """

    __slots__ = ("outcome", "over", "told")

    def __init__(self) -> None:
        self.over = False
        self.outcome: object = None
        self.told: dict[object, Told] = {}

    def fired(self, outcome: object) -> object:
        """Tell everybody; the chain goes on with what it had."""
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
        # Awaiting a Deferred that has failed marks the failure as seen without changing it. What the owner's
        # callbacks have made of that failure is the owner's: another failure, or a Deferred to wait for.
        outcome = self._watch.outcome
        if isinstance(outcome, Failure) and self._deferred.result is outcome:
            next(_failed_quietly(self._deferred), None)


class _OfFuture:
    """Waits for a future of asyncio, which is somebody else's."""

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
        """It was taken out of the future."""


class _Nothing:
    """What cannot be waited for."""

    __slots__ = ()

    def forget(self) -> None:
        """There is nothing to forget."""

    def handled(self) -> None:
        """It was made here."""


class _OfCoroutine:
    """
    Runs a coroutine that awaits Deferreds.

    A Deferred calls its observer before it can be awaited with a failure, so a failure is thrown into the
    coroutine here. It is marked as seen later: at the next step, or when the session has been told.
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
        if isinstance(waited, Deferred):
            self._waiting = self._results.wait(waited, self._resume)
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
        """The coroutine got the failure of what it awaited."""
        failed, self._failed = self._failed, None
        if failed is not None:
            failed.handled()


@types.coroutine
@types.coroutine
def _as_task(
    results: Results, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object]
) -> Generator[Any, Any, tuple[object, BaseException | None]]:
    """
    Run `coroutine` in a task of asyncio's, in which it may await Deferreds too.

    :returns: its result, or what it raised. Nothing leaves the task: asyncio lets `SystemExit` stop the loop.
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
            if isinstance(waited, Deferred):
                yield from _future_of(results, loop, waited)
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
    # A filter may have anything that can be awaited.
    return await awaitable


def _failed_quietly(deferred: Deferred[object]) -> Generator[object, None, None]:
    try:
        yield from deferred.__await__()
    except BaseException:  # noqa: S110 - it was told already; this only marks it as seen
        pass


def _tell(told: Told, outcome: object) -> None:
    if isinstance(outcome, Failure):
        told(None, outcome.value)
    else:
        told(outcome, None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio that runs, which under Twisted's asyncio reactor it does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _in_plain_words(error: BaseException) -> BaseException:
    """`error`, or what it means where asyncio's own words say only what it lacks."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        better = TypeError(_NEEDS_LOOP)
        better.__cause__ = error
        return better
    return error
