"""Tests for `portfwd.relay.awaiting`, alone and under sessions."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import DONE, Await, Close, Forward
from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.relay.awaiting import Results
from portfwd.relay.verifier import Verifier
from portfwd.streams.stream import Loss
from portfwd.values import CloseReason, Side
from tests.filters.scripted import Scripted, script
from tests.kernel.turning import TurningClock
from tests.relay.fakes import FakeStream, Fault
from tests.relay.test_filtered import FilteredCase


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[object, BaseException | None]] = []

    def __call__(self, result: object, error: BaseException | None) -> None:
        self.outcomes.append((result, error))


class DeferredTests(SynchronousTestCase):
    """Deferreds, which belong to somebody else."""

    def test_shared(self) -> None:
        """Everybody who waits for one Deferred gets its result, and so does who comes later."""
        results, shared = Results(), Deferred[object]()
        first, second, late = Told(), Told(), Told()
        results.wait(shared, first)
        results.wait(shared, second)
        shared.callback("yes")
        results.wait(shared, late)
        for told in (first, second, late):
            self.assertEqual(told.outcomes, [("yes", None)])
        self.assertEqual(self.successResultOf(shared), "yes")

    def test_failure(self) -> None:
        """An exception is told as one to each of them, and is not logged as unhandled."""
        results, shared, error = Results(), Deferred[object](), Fault("down")
        told = [Told(), Told()]
        waiting = [results.wait(shared, one) for one in told]
        shared.errback(error)
        self.assertEqual([one.outcomes for one in told], [[(None, error)]] * 2)
        for one in waiting:
            one.handled()
        del shared, waiting
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(Fault), [])

    def test_failure_stays(self) -> None:
        """The Deferred keeps the failure for its owner."""
        shared = fail(Fault("down"))
        Results().wait(shared, Told()).handled()
        self.failureResultOf(shared, Fault)

    def test_failure_waits(self) -> None:
        """A failure is told, and its owner may then wait for another Deferred."""
        results, shared, other = Results(), Deferred[object](), Deferred[object]()
        told = Told()
        waiting = results.wait(shared, told)
        shared.addErrback(lambda failure: other)
        shared.errback(Fault("down"))
        waiting.handled()
        self.assertIsInstance(told.outcomes[0][1], Fault)
        other.callback("up")
        self.assertEqual(self.successResultOf(shared), "up")

    def test_failure_of_the_owner(self) -> None:
        """What the owner's callbacks raise behind an outcome that was told is logged as unhandled."""
        for outcome in (1, Failure(Fault())):
            shared = Deferred[Any]()
            waiting = Results().wait(shared, Told())
            shared.addBoth(lambda outcome: 1 // 0)
            shared.callback(outcome)
            waiting.handled()
            del shared, waiting
            gc.collect()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_chain(self) -> None:
        """What its owner adds behind goes on with the same result."""
        results, shared = Results(), Deferred[Any]()
        told = Told()
        results.wait(shared, told)
        shared.addCallback(lambda result: result * 2)
        shared.callback(4)
        self.assertEqual((told.outcomes, self.successResultOf(shared)), ([(4, None)], 8))

    def test_forgotten(self) -> None:
        """Who does not wait any more is not told; the Deferred is not cancelled, and keeps nothing of it."""
        cancelled: list[object] = []
        results, shared = Results(), Deferred[object](cancelled.append)
        told, other = Told(), Told()
        observers = []
        for _ in range(100):
            results.wait(shared, told).forget()
            (callbacks,) = (one for one in vars(shared).values() if isinstance(one, list))
            observers.append(len(gc.get_referents(callbacks)))
        results.wait(shared, other)
        self.assertEqual(observers, [observers[0]] * 100)
        shared.callback(1)
        self.assertEqual((told.outcomes, other.outcomes, cancelled), ([], [(1, None)], []))


class CoroutineTests(SynchronousTestCase):
    """Coroutines, which are run."""

    def run_one(self, coroutine: Awaitable[object]) -> Told:
        """What comes of it."""
        told = Told()
        Results().wait(coroutine, told)
        return told

    def test_result(self) -> None:
        """It may await Deferreds and other coroutines; what it returns is the result."""
        first, second = Deferred[int](), Deferred[int]()

        async def inner() -> int:
            return await first

        async def outer() -> int:
            return await inner() + await second

        told = self.run_one(outer())
        first.callback(1)
        self.assertEqual(told.outcomes, [])
        second.callback(2)
        self.assertEqual(told.outcomes, [(3, None)])

    def test_shared(self) -> None:
        """Coroutines that await one Deferred all get its result."""
        shared = Deferred[str]()

        async def ask() -> str:
            return await shared

        results, told = Results(), [Told(), Told()]
        for one in told:
            results.wait(ask(), one)
        shared.callback("yes")
        self.assertEqual([one.outcomes for one in told], [[("yes", None)]] * 2)

    def test_raises(self) -> None:
        """What it raises is told, whatever it is; what it awaits raises inside of it."""
        for error in (Fault(), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()):

            async def raises(error: BaseException = error) -> None:
                raise error

            self.assertEqual(self.run_one(raises()).outcomes, [(None, error)])

        async def catches() -> str:
            try:
                await fail(Fault("down"))
            except Fault as error:
                return str(error)
            return ""

        self.assertEqual(self.run_one(catches()).outcomes, [("down", None)])

    def test_fails_later(self) -> None:
        """A Deferred that fails while a coroutine awaits it raises there, and is not logged as unhandled."""
        asked = [Deferred[str](), Deferred[str]()]

        async def catches() -> str:
            said = []
            for one in (0, 1):
                try:
                    await asked[one]
                except Fault as error:
                    said.append(str(error))
            return " ".join(said)

        async def raises() -> str:
            return await asked[0]

        results, told = Results(), [Told(), Told()]
        waiting = [results.wait(make(), one) for make, one in zip((catches, raises), told, strict=True)]
        error = Fault("first")
        asked[0].errback(error)
        asked[1].errback(Fault("second"))
        self.assertEqual([one.outcomes for one in told], [[("first second", None)], [(None, error)]])
        for one in waiting:
            one.handled()
        asked.clear()
        del waiting, error, results
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(Fault), [])

    def test_forgotten_after_a_failure(self) -> None:
        """A failure that a coroutine has caught is not logged when the coroutine is forgotten."""
        failing = [Deferred[str]()]

        async def catches() -> object:
            try:
                return await failing[0]
            except Fault:
                return await Deferred[object]()

        waiting = Results().wait(catches(), Told())
        failing[0].errback(Fault())
        waiting.forget()
        failing.clear()
        del waiting
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(Fault), [])

    def test_forgotten(self) -> None:
        """One that nobody waits for any more is closed; what it awaited goes on."""
        shared = Deferred[object]()
        steps: list[str] = []

        async def ask() -> None:
            try:
                await shared
            finally:
                steps.append("closed")

        told = Told()
        Results().wait(ask(), told).forget()
        self.assertEqual((steps, shared.called), (["closed"], False))
        shared.callback(None)
        self.assertEqual((steps, told.outcomes), (["closed"], []))

    def test_forgotten_by_itself(self) -> None:
        """So is one that ends its session itself, when it waits the next time."""
        never = Deferred[object]()
        steps: list[str] = []
        start = Deferred[object]()

        async def ask() -> None:
            await start
            waiting.forget()
            try:
                await never
            finally:
                steps.append("closed")

        told = Told()
        waiting = Results().wait(ask(), told)
        start.callback(None)
        self.assertEqual((steps, told.outcomes), (["closed"], []))

    def test_own(self) -> None:
        """Any object that can be awaited will do."""

        class Own:
            def __await__(self) -> Generator[Any, None, int]:
                yield from ()
                return 3

        self.assertEqual(self.run_one(Own()).outcomes, [(3, None)])

    def test_asyncio_elsewhere(self) -> None:
        """What is asyncio's is refused where its loop does not run, in words that say what to do."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def sleeps() -> None:
            await asyncio.sleep(1)

        async def waits() -> None:
            await loop.create_future()

        for make in (loop.create_future, sleeps, waits):
            ((result, error),) = self.run_one(make()).outcomes  # type: ignore[operator]
            self.assertEqual((result, type(error)), (None, TypeError))
            self.assertIn("twistd --reactor=asyncio", str(error))

    def test_nonsense(self) -> None:
        """A coroutine that waits for something that nobody knows fails."""

        class Odd:
            def __await__(self) -> Generator[Any, None, None]:
                yield 17

        ((_, error),) = self.run_one(Odd()).outcomes
        self.assertIsInstance(error, TypeError)


class AsyncioTests(SynchronousTestCase):
    """Under asyncio's loop, as Twisted's asyncio reactor runs it."""

    def outcome(self, make: Callable[[], Awaitable[object]]) -> tuple[object, BaseException | None]:
        """What comes of an awaitable that is made while the loop runs."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def main() -> tuple[object, BaseException | None]:
            told = Told()
            Results().wait(make(), told)
            while not told.outcomes:
                await asyncio.sleep(0)
            return told.outcomes[0]

        return loop.run_until_complete(main())

    def test_future(self) -> None:
        """Futures and tasks have their result, their exception, or their cancellation."""

        def future(finish: Callable[[asyncio.Future[object]], object]) -> asyncio.Future[object]:
            made = asyncio.get_running_loop().create_future()
            finish(made)
            return made

        error = Fault()
        self.assertEqual(self.outcome(lambda: future(lambda one: one.set_result(1))), (1, None))
        self.assertEqual(self.outcome(lambda: future(lambda one: one.set_exception(error))), (None, error))
        _, cancelled = self.outcome(lambda: future(lambda one: one.cancel()))
        self.assertIsInstance(cancelled, asyncio.CancelledError)

    def test_coroutine(self) -> None:
        """A coroutine may await asyncio's futures, use its timeouts, and await Deferreds as well."""
        later = Deferred[int]()

        async def ask() -> int:
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(later.callback, 2)
                return await later + await succeed(3)

        self.assertEqual(self.outcome(ask), (5, None))

    def test_time_is_up(self) -> None:
        """A timeout of asyncio interrupts a Deferred, which is not cancelled."""
        never = Deferred[int]()

        async def ask() -> int:
            async with asyncio.timeout(0):
                return await never

        _, error = self.outcome(ask)
        self.assertIsInstance(error, TimeoutError)
        self.assertFalse(never.called)

    def test_raises(self) -> None:
        """Nothing that a coroutine raises stops the loop."""
        for error in (Fault(), SystemExit(), KeyboardInterrupt()):

            async def raises(error: BaseException = error) -> None:
                await asyncio.sleep(0)
                raise error

            self.assertEqual(self.outcome(raises), (None, error))

    def test_forgotten(self) -> None:
        """A future that nobody waits for any more is left alone."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def main() -> tuple[bool, list[object]]:
            told = Told()
            future = loop.create_future()
            Results().wait(future, told).forget()
            await asyncio.sleep(0)
            cancelled = future.cancelled()
            future.set_result(1)
            await asyncio.sleep(0)
            return cancelled, list(told.outcomes)

        self.assertEqual(loop.run_until_complete(main()), (False, []))


class SessionTests(FilteredCase):
    """Sessions whose filters await."""

    def asks(self, awaitable: Awaitable[object], **answers: Any) -> None:
        """A session whose filter awaits that for the client's first bytes."""
        self.relaying(Scripted(received=script(Await(awaitable)), **{"resumed": DONE, **answers}))
        self.client.says(b"x")

    def test_kinds(self) -> None:
        """A coroutine, and a Deferred that has its result already."""

        async def coroutine() -> int:
            return 1

        made: list[Callable[[], Awaitable[object]]] = [coroutine, lambda: succeed(2)]
        for number, make in enumerate(made, 1):
            self.setUp()
            self.asks(make())
            self.clock.advance(0)
            self.assertEqual(self.filters[0].calls[-1], ("resumed", number))

    def test_it_raises(self) -> None:
        """A session whose `Await` raised is aborted: an authoriser that cannot ask lets nobody in."""

        async def raises() -> bool:
            raise Fault

        later: Deferred[bool] = Deferred()

        async def waits() -> bool:
            return await later

        waiting = waits()
        for awaitable in (fail(Fault()), raises(), fail(CancelledError()), waiting):
            self.setUp()
            self.asks(awaitable, resumed=lambda allowed: DONE if allowed else Close("no"))
            if awaitable is waiting:
                later.errback(Fault())
            self.clock.advance(0)
            self.assertEqual((self.filters[0].told("resumed"), self.upstream.written), (0, b""))
            self.assertClosed(CloseReason.FILTER)
            self.assertIn("awaited a result that raised", self.lines.last.detail)
            self.assertEqual((self.client.calls[-1], self.rule.counts.filter_failures), ("abort", 1))
            self.flushLoggedErrors(Fault, CancelledError)

    def test_two_sessions(self) -> None:
        """Two sessions of a rule may await one Deferred; the end of one is nothing to the other."""
        cancelled: list[object] = []
        shared: Deferred[object] = Deferred(cancelled.append)
        first, second = (Scripted(received=script(Await(shared)), resumed=DONE) for _ in range(2))
        self.relaying(first)
        self.client.says(b"x")
        client, rule = self.client, self.rule
        other = FakeStream(self.clock)
        left = [second]
        rule.filters = (("a", type(rule.filters[0][1])(lambda connection: left.pop())),)
        rule.accept(other, lambda: None)
        self.connect()
        other.says(b"y")
        client.resets()
        self.assertEqual(cancelled, [])
        shared.callback("yes")
        self.clock.advance(0)
        self.assertEqual((first.told("resumed"), second.calls[-1]), (0, ("resumed", "yes")))
        self.assertEqual(self.upstream.written, b"y")

    def test_in_order(self) -> None:
        """Results are told in the order in which they came, each after the verdict before it."""
        one, other = Deferred[bytes](), Deferred[bytes]()
        self.relaying(
            Scripted(received=script([Await(one), Await(other)]), resumed=lambda data: Forward(data))
        )
        self.client.says(b"x")
        other.callback(b"other ")
        one.callback(b"one ")
        self.assertEqual(self.filters[0].told("resumed"), 0)
        self.clock.advance(0)
        self.assertEqual(self.upstream.written, b"other one ")

    def test_in_a_method(self) -> None:
        """A Deferred that fires inside a method does not overtake the verdict of that method."""
        waiting = Deferred[object]()

        def received(way: object, data: bytes) -> Any:
            waiting.callback(None)
            return [Forward(b"first "), Await(waiting), b""]

        self.relaying(Scripted(received=received, resumed=Forward(b"second")))
        self.client.says(b"x")
        self.assertEqual(self.upstream.written, b"first ")
        self.clock.advance(0)
        self.assertEqual(self.upstream.written, b"first second")

    def test_client_has_ended(self) -> None:
        """A client that has ended, and waits for a result that never comes, has half-close and no longer."""
        session = self.relaying(Scripted(opened=lambda connection: Await(Deferred())), half_close=80.0)
        self.clock.pump([10.0] * 100)
        self.assertEqual(self.lines.reasons, [])
        self.client.hung_up = True
        self.clock.pump([10.0] * 8)
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(10.0)
        self.assertIs(session.reason, CloseReason.FILTER)
        self.assertIn("half-close=80s: the client had ended", self.lines.last.detail)
        self.assertClosed(CloseReason.FILTER, Side.CLIENT)

    def test_client_has_ended_and_is_answered(self) -> None:
        """One that has its result in time is served."""
        waiting = Deferred[object]()
        self.relaying(Scripted(opened=lambda connection: Await(waiting)), half_close=80.0)
        self.client.hung_up = True
        self.clock.pump([10.0] * 7)
        waiting.callback(None)
        self.clock.pump([10.0] * 7)
        self.assertEqual(self.lines.reasons, [])

    def test_client_resets(self) -> None:
        """A client that is reset while its filter awaits is gone at once, dialled or not."""
        for begin in (self.accept, self.relaying):
            self.setUp()
            session = begin(Scripted(opened=lambda connection: Await(Deferred())), linger=5.0)
            self.client.refuses()
            self.clock.pump([1.0] * 6)
            self.assertIn(session.reason, (CloseReason.CLIENT_GONE_EARLY, CloseReason.CLIENT_RESET))

    def test_turns(self) -> None:
        """
        Results that are there at once are told one a turn to a session, and to some sessions a turn.

        A filter that always awaits another one would otherwise let nobody else have a turn.
        """
        told: list[int] = []

        def again(_: object) -> Await:
            told.append(1)
            return Await(succeed(None))

        self.clock = TurningClock()
        self.clock.advance(100.0)
        self.relaying(Scripted(opened=lambda connection: Await(succeed(None)), resumed=again))
        for turn in range(1, 6):
            self.clock.turn()
            self.assertEqual(len(told), turn)
        rule = self.rule
        factory = rule.filters[0][1]
        for _ in range(3 * AT_ONCE):
            one = Scripted(opened=lambda connection: Await(succeed(None)), resumed=again)
            rule.filters = (("a", type(factory)(lambda connection, one=one: one)),)
            rule.accept(FakeStream(self.clock), lambda: None)
        for _ in range(6):
            before = len(told)
            self.clock.turn()
            self.assertLessEqual(len(told) - before, AT_ONCE)

    def test_session_ends(self) -> None:
        """What is awaited when the session ends is not cancelled, and its filter hears no more of it."""
        cancelled: list[object] = []
        waiting: Deferred[object] = Deferred(cancelled.append)
        self.asks(waiting)
        self.client.resets()
        waiting.callback(None)
        self.clock.advance(0)
        self.assertEqual((cancelled, self.filters[0].told("resumed")), ([], 0))
        self.upstream.loses(Loss.ABORTED)
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_session_ends_with_a_result(self) -> None:
        """A result that came and was not told yet is forgotten with the session."""
        self.asks(succeed(1))
        self.client.resets()
        self.upstream.loses(Loss.ABORTED)
        self.assertEqual(self.filters[0].told("resumed"), 0)
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_cannot_be_closed(self) -> None:
        """A coroutine that makes a mistake of being closed is logged, and that is all."""

        async def stubborn() -> Any:
            try:
                await Deferred[object]()
            finally:
                raise SystemExit

        made: Coroutine[Any, Any, Any] = stubborn()
        self.asks(made)
        self.client.resets()
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET])

    def test_checks(self) -> None:
        """A check of a password that waits for its turn is withdrawn with the session."""
        withdrawn: list[object] = []
        check: Deferred[bool] = Deferred(withdrawn.append)
        self.patch(Verifier, "verify", lambda self, *arguments: check)
        self.relaying(Scripted(opened=lambda connection: Await(connection.verify(None, bool, bool))))
        self.client.resets()
        self.assertEqual(withdrawn, [check])
