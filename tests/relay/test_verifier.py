"""Tests of `portfwd.relay.verifier`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from portfwd.filters.builtin.users import hash_password, read_users
from portfwd.limits.guesses import FIRST_DELAY, MOST_OF_SOURCE
from portfwd.relay.verifier import Verifier
from portfwd.values import InetAddress

CLIENT = InetAddress("192.0.2.1", 5000)
OTHER = InetAddress("192.0.2.2", 5000)


class FakeReactor(Clock):
    """A clock that calls at once what comes from threads."""

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        """See `IReactorFromThreads`."""
        call(*arguments)


class VerifierTests(SynchronousTestCase):
    """When checks run, and what becomes of their results."""

    def setUp(self) -> None:
        """Threads that run when the test says so."""
        self.clock = FakeReactor()
        self.threads: list[Callable[[], None]] = []
        self.verifier = Verifier(self.clock, self.threads.append)  # type: ignore[arg-type]

    def ask(
        self, right: bool, client: InetAddress = CLIENT, quick: Callable[[], bool] = lambda: False
    ) -> Deferred[bool]:
        """Check a secret."""
        return self.verifier.verify(client, quick, lambda: right)

    def run_thread(self) -> None:
        """The thread that was started first comes to its end."""
        self.threads.pop(0)()

    def test_results(self) -> None:
        """The slow check runs in a thread only; its result is the answer."""
        for right in (True, False):
            answer = self.ask(right)
            self.assertNoResult(answer)
            self.run_thread()
            self.assertEqual(self.successResultOf(answer), right)

    def test_quick(self) -> None:
        """What is known to be right needs no thread."""
        self.assertTrue(self.successResultOf(self.ask(False, quick=lambda: True)))
        self.assertEqual(self.threads, [])

    def test_quick_is_no_way_round(self) -> None:
        """While a source guesses, is delayed or waits, the quick check does not answer it; others it does."""
        self.ask(False)
        self.assertNoResult(self.ask(True, quick=lambda: True))
        self.assertTrue(self.successResultOf(self.ask(False, OTHER, lambda: True)))
        self.run_thread()
        self.assertNoResult(self.ask(True, quick=lambda: True))
        self.assertEqual(self.threads, [])
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(len(self.threads), 1)

    def test_client_that_leaves(self) -> None:
        """A client that leaves takes its waiting check along; one that has begun counts all the same."""
        first, second = self.ask(False), self.ask(False)
        for answer in (first, second):
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        self.run_thread()
        self.assertEqual(self.threads, [])
        self.assertNoResult(self.ask(True))
        self.assertEqual(self.threads, [])

    def test_too_many(self) -> None:
        """Beyond what may wait of a source the answer is no, without a check."""
        answers = [self.ask(True) for _ in range(MOST_OF_SOURCE + 2)]
        self.assertIs(self.successResultOf(answers[-1]), False)
        self.assertNoResult(answers[-2])

    def test_raises(self) -> None:
        """A check that raises fails, and the next one begins."""
        answer = self.verifier.verify(OTHER, lambda: False, lambda: 1 // 0 == 0)
        self.run_thread()
        self.failureResultOf(answer, ZeroDivisionError)
        self.assertEqual(repr(self.verifier), "<Verifier <Guesses 0 waiting, 0 under way>>")

    def test_no_threads(self) -> None:
        """Where the system starts no thread, the check fails."""

        def refuse(call: Callable[[], None]) -> None:
            raise RuntimeError("can't start new thread")

        verifier = Verifier(self.clock, refuse)  # type: ignore[arg-type]
        self.failureResultOf(verifier.verify(CLIENT, lambda: False, lambda: True), RuntimeError)


class ThreadTests(TestCase):
    """With the real reactor."""

    async def test_password(self) -> None:
        """A password is hashed in another thread than the reactor's."""
        users = read_users(hash_password("alice", "secret", b"sixteen bytes...", 1000))
        threads: list[threading.Thread] = []

        def slow() -> bool:
            threads.append(threading.current_thread())
            return users.admits(b"alice", b"secret")

        verifier = Verifier(reactor)  # type: ignore[arg-type]
        self.assertTrue(await verifier.verify(CLIENT, lambda: False, slow))
        self.assertNotIn(threading.main_thread(), threads)
