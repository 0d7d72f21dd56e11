"""The dial with nothing to choose: one attempt, and the same outcomes as any other dial's."""

from __future__ import annotations

import errno
import os
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectFailed, ConnectRefused, DialError, OutOfResources
from portfwd.relay import direct as direct_module
from portfwd.relay.dial import Destination
from portfwd.relay.direct import DirectDial
from portfwd.rules.model import Options
from portfwd.upstreams.patience import Patience
from portfwd.values import Address, InetAddress
from tests.relay.fakes import FakeStream, Fault

TARGET = InetAddress("10.0.0.1", 80)


class FakeAttempt:
    """An attempt that the test answers."""

    seen = 5

    def __init__(self, *arguments: Any) -> None:
        _, self.address, _, self.limit, self.owner, *_ = arguments
        self.cancelled = False
        self.at_once: Exception | None = None
        self.fault: Exception | None = None

    def start(self) -> None:
        if isinstance(self.at_once, DialError):
            self.owner.failed(self, self.at_once)

    def cancel(self) -> None:
        self.cancelled = True
        if self.fault is not None:
            raise self.fault


class Maker:
    """Makes streams, or cannot."""

    poller = None
    problem: Exception | None = None

    def plain(self, result: Any, address: Address, buffer: int, *, seen: int | None = None) -> FakeStream:
        if self.problem is not None:
            raise self.problem
        assert seen == FakeAttempt.seen
        return FakeStream(Clock(), address)


class DirectDialTests(SynchronousTestCase):
    """Its owner is the test."""

    def setUp(self) -> None:
        """One attempt that waits."""
        self.reached: list[tuple[FakeStream, Destination]] = []
        self.failures: list[tuple[DialError, Address | None]] = []
        self.mistakes: list[Failure] = []
        self.maker = Maker()
        self.patch(direct_module, "SocketAttempt", FakeAttempt)
        self.make()

    def make(self, limit: float = 15.0, **options: Any) -> None:
        """A dial of 10.0.0.1:80."""
        self.destination = Destination("10.0.0.1:80", Options(**options), address=TARGET)
        world: Any = type("World", (), {"reactor": Clock()})
        patience = Patience(Clock(), limit)
        self.dial = DirectDial(world, self.destination, TARGET, patience, self, cast(Any, self.maker))
        self.attempt = cast(FakeAttempt, self.dial._attempt)

    def dialled(self, stream: Any, destination: Destination) -> None:
        self.reached.append((stream, destination))

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        self.failures.append((problem, address))

    def broke(self, failure: Failure) -> None:
        self.mistakes.append(failure)

    def test_reached(self) -> None:
        """The owner gets the stream and its destination."""
        self.dial.start()
        self.assertEqual(repr(self.dial), "<DirectDial 10.0.0.1:80 trying>")
        self.attempt.owner.connected(self.attempt, "socket")
        ((stream, destination),) = self.reached
        self.assertEqual((stream.address, destination), (TARGET, self.destination))
        self.assertEqual(repr(self.dial), "<DirectDial 10.0.0.1:80 over>")

    def test_failed(self) -> None:
        """The problem, and where; also when it comes within the start."""
        self.attempt.at_once = problem = ConnectRefused("no")
        self.dial.start()
        self.assertEqual(self.failures, [(problem, TARGET)])

    def test_limits(self) -> None:
        """The wait that the rule's dials share bounds the attempt."""
        self.make(4.0)
        self.assertEqual(self.attempt.limit, 4.0)

    def test_cancel(self) -> None:
        """Silent."""
        self.dial.start()
        self.dial.cancel()
        self.assertTrue(self.attempt.cancelled)
        self.assertEqual((self.reached, self.failures, self.mistakes), ([], [], []))

    def test_kernel_refuses_to_watch(self) -> None:
        """Our own exhaustion is told from other errors, as in any dial."""
        for code, kind in (
            (errno.ENOMEM, OutOfResources),
            (errno.ENOSPC, OutOfResources),
            (errno.ENOTCONN, ConnectFailed),
        ):
            self.failures.clear()
            self.maker.problem = OSError(code, os.strerror(code))
            self.attempt.owner.connected(self.attempt, "socket")
            ((problem, address),) = self.failures
            self.assertIs(type(problem), kind)
            self.assertEqual((str(problem), address), (f"10.0.0.1:80: {os.strerror(code)}", TARGET))

    def test_mistake(self) -> None:
        """An exception goes to the owner."""
        self.maker.problem = Fault("plain")
        self.attempt.owner.connected(self.attempt, "socket")
        self.assertEqual([failure.type for failure in self.mistakes], [Fault])

    def test_mistake_before_an_outcome(self) -> None:
        """The attempt is cancelled; one that cannot even be cancelled is logged."""
        for fault, logged in ((None, 0), (Fault("cancel"), 1)):
            self.make()
            self.attempt.fault = fault
            self.dial.broke(Failure(Fault("first")))
            self.assertTrue(self.attempt.cancelled)
            self.assertEqual(len(self.flushLoggedErrors(Fault)), logged)
        self.assertEqual(len(self.mistakes), 2)
