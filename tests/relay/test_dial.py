"""
Dials: targets in order, addresses side by side, limits of time, cancelled at any moment.

Attempts, names and handshakes are answered by the tests; the last class dials real sockets whose
system calls fail as the kernel's do.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import evolve
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    NotPermitted,
    OutOfResources,
    TargetsFull,
    TLSFailed,
)
from portfwd.kernel.platform import Platform
from portfwd.kernel.socket_options import WILL_SEND
from portfwd.limits.look_ups import Asker
from portfwd.relay import target_dial as dial_module
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.dial import MAX_FAILURES, Dial
from portfwd.relay.portable import portable_endpoint
from portfwd.relay.target_dial import ATTEMPT_DELAY, DialSettings, TargetDial
from portfwd.relay.target_order import InOrder
from portfwd.rules.model import Options
from portfwd.streams.stream import Loss
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams import connect as connect_module
from portfwd.values import Address, FailedAttempt, InetAddress, TLSInfo, UnixAddress
from tests.relay.fakes import FakeStream, Fault


class Target:
    """A `TLSTarget` that asks the same for every client."""

    def for_client(self, client: TLSInfo | None) -> Any:
        return self


TLS: Any = Target()


class FakeAttempt:
    """An attempt that the test answers."""

    def __init__(self, context: Context, address: Address | None, name: str, owner: TargetDial) -> None:
        self.address = address
        self.name = name
        self.owner = owner
        self.started = False
        self.cancelled = False
        self.seen = 0
        self.context = context

    def start(self) -> None:
        self.started = True
        problem = self.context.at_once.get(self.name)
        if isinstance(problem, DialError):
            self.owner.failed(self, problem)
        elif problem is not None:
            raise problem

    def cancel(self) -> None:
        self.cancelled = True
        if self.context.cancel_fault:
            raise Fault("cancel")

    def succeeds(self, result: Any = None) -> None:
        """Connected."""
        self.owner.connected(self, cast(Any, self.name) if result is None else result)

    def fails(self, problem: DialError) -> None:
        """Not connected."""
        self.owner.failed(self, problem)


class FakeNames:
    """A resolver that the test answers."""

    def __init__(self) -> None:
        self.waiting: dict[object, Callable[[Sequence[str]], None]] = {}
        self.asked: list[tuple[str, float]] = []
        self.askers: list[object] = []
        self.known: dict[str, Sequence[str]] = {}
        self.doubted: list[str] = []
        self.answers_again = False
        self.refuses = ""

    def ask(
        self,
        host: str,
        refresh: float,
        who: object,
        answer: Callable[[Sequence[str]], None],
        *,
        failed: Sequence[str] = (),
        asker: object = None,
    ) -> str:
        self.asked.append((host, refresh))
        self.askers.append(asker)
        if failed and not self.answers_again:
            answer(failed)
        elif host in self.known and not failed:
            answer(self.known[host])
        else:
            self.waiting[who] = answer
        return self.refuses

    def doubt(self, host: str) -> None:
        self.doubted.append(host)

    def forget(self, host: str, who: object) -> None:
        self.waiting.pop(who, None)


class Context:
    """What a dial needs, and makes streams of: the name of the attempt becomes the stream's address."""

    poller = None

    def __init__(self) -> None:
        self.clock = Clock()
        self.names = FakeNames()
        self.attempts: list[FakeAttempt] = []
        self.endpoints: list[Any] = []
        self.at_once: dict[str, Exception] = {}
        self.cancel_fault = False
        self.streams: list[FakeStream] = []
        self.problem: Exception | None = None
        self.settings: object = None

    def socket_attempt(
        self,
        reactor: object,
        address: Address,
        options: Options,
        timeout: float,
        owner: TargetDial,
        poller: object,
        settings: object,
        clock: object,
    ) -> FakeAttempt:
        """In place of `SocketAttempt`."""
        assert timeout == options.connect_timeout
        self.settings = settings
        self.attempts.append(FakeAttempt(self, address, str(address), owner))
        return self.attempts[-1]

    def endpoint_attempt(
        self,
        clock: object,
        endpoint: object,
        name: str,
        options: Options,
        timeout: float,
        owner: TargetDial,
        stream: object,
    ) -> FakeAttempt:
        """In place of `EndpointAttempt`."""
        assert stream == f"a stream that reads {options.buffer}"
        self.endpoints.append(endpoint)
        self.attempts.append(FakeAttempt(self, None, name, owner))
        return self.attempts[-1]

    def plain(
        self, result: Any, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> FakeStream:
        """A stream over a plain socket."""
        if self.problem is not None:
            raise self.problem
        assert seen == 0
        return self.make(address)

    def bare(self, buffer: int) -> str:
        """What an endpoint is to connect."""
        return f"a stream that reads {buffer}"

    def tls_client(
        self,
        result: Any,
        address: Address | None,
        buffer: int,
        creator: object,
        owner: Dial,
        *,
        first: bytes = b"",
    ) -> FakeStream:
        """A stream whose handshake the test answers."""
        assert first == b"", "no filter introduces anybody here"
        if self.problem is not None:
            raise self.problem
        assert creator is TLS
        stream = self.make(address)
        stream.later = True
        stream.own(owner)
        return stream

    def make(self, address: Address | None) -> FakeStream:
        """One more stream."""
        self.streams.append(FakeStream(self.clock, address))
        return self.streams[-1]


class DialCase(SynchronousTestCase):
    """The owner of a dial."""

    own_sockets = True

    def setUp(self) -> None:
        """A context that answers nothing by itself."""
        self.context = Context()
        self.clock = self.context.clock
        self.reached: list[tuple[FakeStream, Destination]] = []
        self.failures: list[tuple[DialError, Address | None]] = []
        self.mistakes: list[Failure] = []
        self.attempts: Sequence[FailedAttempt] = ()
        self.patch(dial_module, "SocketAttempt", self.context.socket_attempt)
        self.patch(dial_module, "EndpointAttempt", self.context.endpoint_attempt)

    # The owner

    def dialled(self, stream: Any, destination: Destination) -> None:
        self.reached.append((stream, destination))

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        self.failures.append((problem, address))

    def broke(self, failure: Failure) -> None:
        self.mistakes.append(failure)

    # What tests say

    def dial(
        self,
        *targets: str | Destination,
        limit: float = 15.0,
        permits: Callable[[Address], bool] | None = None,
        will_send: bool = False,
        retry: float | None = None,
        **options: Any,
    ) -> Dial:
        """Dial these targets: HOST:PORT, unix:PATH, tls:HOST:PORT or a destination."""
        made = [self.destination(target, Options(**options)) for target in targets]
        make_context = RelayContext(
            reactor=cast(Any, self.clock),
            platform=Platform(own_sockets=self.own_sockets, epoll=False),
            names=cast(Any, self.context.names),
            streams=cast(Any, self.context),
        )
        settings = DialSettings(make_context, cast(Any, self.context), permits, will_send)
        self.dialling = Dial(settings, InOrder(made), limit, self, retry)
        self.dialling.start()
        return self.dialling

    def destination(self, target: str | Destination, options: Options) -> Destination:
        """A target from its text."""
        if isinstance(target, Destination):
            return target
        if target.startswith("unix:"):
            return Destination(target, options, address=UnixAddress(target[5:]))
        if target.startswith("endpoint:"):
            return Destination(target, options, endpoint=cast(Any, target))
        host, _, port = target.removeprefix("tls:").rpartition(":")
        tls = TLS if target.startswith("tls:") else None
        return Destination(target, options, address=InetAddress(host.strip("[]"), int(port)), tls=tls)

    @property
    def tried(self) -> list[str]:
        """Every attempt that was started, in order."""
        return [attempt.name for attempt in self.context.attempts if attempt.started]

    def assertOver(self, *, reached: int = 0, failed: int = 0, mistakes: int = 0) -> None:
        """So many outcomes, and nothing left open."""
        self.assertEqual(
            (len(self.reached), len(self.failures), len(self.mistakes)), (reached, failed, mistakes)
        )
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.context.names.waiting, {})

    def assertFailed(self, kind: type[DialError], address: Address | None) -> str:
        """It failed so, there; the text is returned."""
        self.assertOver(failed=1)
        problem, where = self.failures[0]
        self.assertIs(type(problem), kind)
        self.assertEqual(where, address)
        return str(problem)


class TargetTests(DialCase):
    """One address a target."""

    def test_first_words_wait(self) -> None:
        """Sockets of a dial for a client that has spoken are set up to say so at once."""
        self.dial("10.0.0.1:80")
        usual = self.context.settings
        self.dial("10.0.0.1:80", will_send=True)
        self.assertEqual(self.context.settings, (*usual, *WILL_SEND))  # type: ignore[misc]

    def test_reached(self) -> None:
        """The owner gets a stream over the connected socket, and which target it is."""
        self.dial("10.0.0.1:80")
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)
        stream, destination = self.reached[0]
        self.assertEqual(stream.address, InetAddress("10.0.0.1", 80))
        self.assertEqual(destination.label, "10.0.0.1:80")

    def test_in_order(self) -> None:
        """The next target's turn comes when the one before has failed, not sooner."""
        self.dial("10.0.0.1:80", "unix:/run/x", "[::1]:80")
        self.clock.advance(4)
        self.assertEqual(self.tried, ["10.0.0.1:80"])
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.context.attempts[1].fails(ConnectFailed("no"))
        self.assertEqual(self.tried, ["10.0.0.1:80", "unix:/run/x", "[::1]:80"])
        self.context.attempts[2].succeeds()
        self.assertOver(reached=1)

    def test_all_fail(self) -> None:
        """The last target's problem and address are told."""
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.context.attempts[0].fails(ConnectTimedOut("slow"))
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertEqual(self.assertFailed(ConnectRefused, InetAddress("10.0.0.2", 80)), "no")

    def test_order_is_told(self) -> None:
        """The order is told of each target that failed, by a handshake or by time too, and of the last."""
        told: list[tuple[str, str]] = []

        class Told(InOrder):
            def failed(self, destination: Destination, problem: DialError) -> None:
                told.append((destination.label, type(problem).__name__))

            def reached(self, destination: Destination) -> None:
                told.append((destination.label, "reached"))

        self.patch(sys.modules[__name__], "InOrder", Told)
        self.dial("10.0.0.1:80", "tls:10.0.0.2:443", "10.0.0.3:80")
        self.context.attempts[0].fails(ConnectTimedOut("slow"))
        self.context.attempts[1].succeeds()
        self.context.streams[-1].loses(Loss.RESET, "no")
        self.context.attempts[2].succeeds()
        self.assertEqual(
            told,
            [
                ("10.0.0.1:80", "ConnectTimedOut"),
                ("tls:10.0.0.2:443", "TLSFailed"),
                ("10.0.0.3:80", "reached"),
            ],
        )
        told.clear()
        self.dial("10.0.0.4:80", limit=2.0)
        self.clock.advance(2)
        self.assertEqual(told, [("10.0.0.4:80", "ConnectTimedOut")])

    def test_retry(self) -> None:
        """With ``retry=`` targets that refuse are dialled again after 0.1 s, doubling to 1 s."""
        self.dial("10.0.0.1:80", retry=3.0)
        waits = []
        while not self.failures:
            begun = self.clock.seconds()
            self.context.attempts[-1].fails(ConnectRefused("no"))
            count = len(self.context.attempts)
            while not self.failures and len(self.context.attempts) == count:
                self.clock.advance(0.01)
            waits.append(round(self.clock.seconds() - begun, 1))
        self.assertEqual(waits, [0.1, 0.2, 0.4, 0.8, 1.0, 0.0])
        self.assertFailed(ConnectRefused, InetAddress("10.0.0.1", 80))

    def test_retry_reaches(self) -> None:
        """A server that has started meanwhile is reached; one that does not answer is not waited for."""
        self.dial("10.0.0.1:80", "10.0.0.2:80", retry=3.0)
        for attempt in range(2):
            self.context.attempts[attempt].fails(ConnectRefused("no"))
        self.clock.advance(0.1)
        self.context.attempts[2].fails(ConnectTimedOut("slow"))
        self.context.attempts[3].succeeds()
        self.assertOver(reached=1)
        self.dial("10.0.0.1:80", retry=3.0)
        self.context.attempts[4].fails(ConnectTimedOut("slow"))
        self.assertOver(reached=1, failed=1)

    def test_retry_cancelled(self) -> None:
        """A client that leaves ends the waiting."""
        self.dial("10.0.0.1:80", retry=3.0)
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.dialling.cancel()
        self.clock.advance(5)
        self.assertOver()

    def test_full(self) -> None:
        """A target with as many sessions as it may have is passed over; the dial takes a place at once."""
        one, two = (
            self.destination(target, Options(max_conns_per_target=1))
            for target in ("10.0.0.1:80", "10.0.0.2:80")
        )
        first = self.dial(one, two)
        self.dial(one, two)
        self.assertEqual(self.tried, ["10.0.0.1:80", "10.0.0.2:80"])
        first.cancel()
        self.dial(one, two)
        self.assertEqual(self.tried[2:], ["10.0.0.1:80"])
        self.dial(one, two)
        self.assertEqual(str(self.failures.pop()[0]), "10.0.0.2:80: max-conns-per-target=1")
        self.context.attempts[1].succeeds()
        self.context.attempts[2].fails(ConnectRefused("no"))
        # Who was refused there gave his place back, and found the other one's taken.
        self.assertOver(reached=1, failed=1)
        self.assertIs(type(self.failures[0][0]), TargetsFull)
        self.assertEqual([target.occupancy.taken for target in (one, two)], [0, 1])
        self.assertEqual([target.occupancy.failures for target in (one, two)], [1, 0])
        self.reached.pop()[1].give_back()
        self.assertEqual(two.occupancy.taken, 0)

    def test_failures(self) -> None:
        """Each target knows how often it could not be reached; a dial that was cancelled is no failure."""
        targets = [self.destination(one, Options()) for one in ("10.0.0.1:80", "10.0.0.2:80")]
        self.dial(*targets)
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.context.attempts[1].succeeds()
        self.dial(*targets).cancel()
        self.dial(*targets)
        self.context.attempts[3].fails(ConnectRefused("no"))
        self.context.attempts[4].fails(ConnectRefused("no"))
        self.assertEqual([target.occupancy.failures for target in targets], [2, 1])

    def test_out_of_resources(self) -> None:
        """What this process has run out of, it lacks for the next target too."""
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.context.attempts[0].fails(OutOfResources("EMFILE"))
        self.assertFailed(OutOfResources, InetAddress("10.0.0.1", 80))
        self.assertEqual(self.tried, ["10.0.0.1:80"])

    def test_dial_timeout(self) -> None:
        """The limit of all attempts together ends the one under way, and names its address."""
        self.dial("10.0.0.1:80", limit=3.0)
        self.clock.advance(2.9)
        self.assertEqual(self.failures, [])
        self.clock.advance(0.1)
        self.assertTrue(self.context.attempts[0].cancelled)
        text = self.assertFailed(ConnectTimedOut, InetAddress("10.0.0.1", 80))
        self.assertEqual(text, "10.0.0.1:80: no target answered within 3 s")

    def test_dial_timeout_after_a_connect_timeout(self) -> None:
        """A target that did not answer keeps its own message."""
        self.dial("10.0.0.1:80", "10.0.0.2:80", limit=3.0)
        self.context.attempts[0].fails(ConnectTimedOut("10.0.0.1:80: no answer within 2 s"))
        self.clock.advance(3.0)
        text = self.assertFailed(ConnectTimedOut, InetAddress("10.0.0.2", 80))
        self.assertEqual(text, "10.0.0.1:80: no answer within 2 s")

    def test_endpoint(self) -> None:
        """An endpoint's stream is handed over as it comes."""
        self.dial("endpoint:tor:x")
        stream = TransportStream(self.clock, 65536)
        self.context.attempts[0].succeeds(stream)
        self.assertOver(reached=1)
        self.assertIs(self.reached[0][0], stream)
        self.assertEqual(self.context.endpoints, ["endpoint:tor:x"])

    def test_repr(self) -> None:
        """The target and how it stands."""
        dialling = self.dial("10.0.0.1:80")
        self.assertEqual(repr(dialling), "<Dial 10.0.0.1:80 attempts=1 trying>")
        dialling.cancel()
        self.assertEqual(repr(dialling), "<Dial 10.0.0.1:80 attempts=0 over>")


class NameTests(DialCase):
    """Targets that are names."""

    def resolve(self, *hosts: str) -> None:
        """The resolver answers."""
        for who in list(self.context.names.waiting):
            self.context.names.waiting.pop(who)(hosts)

    def test_asked(self) -> None:
        """The name is asked for with its refresh time; its addresses are tried at the target's port."""
        self.dial("www.example:80", dns_refresh=7.0)
        self.assertEqual(self.context.names.asked, [("www.example", 7.0)])
        self.resolve("10.0.0.1")
        self.assertEqual(self.tried, ["10.0.0.1:80"])
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)

    def test_not_resolved(self) -> None:
        """A name without an address fails its target; the next one is tried."""
        self.dial("www.example:80", "10.0.0.2:80")
        self.resolve()
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)

    def test_none_resolved(self) -> None:
        """With no target left it is told, with the name."""
        self.context.names.known["www.example"] = []
        self.dial("www.example:80")
        self.assertFailed(NameNotResolved, InetAddress("www.example", 80))

    def test_resolver_does_not_answer(self) -> None:
        """At the deadline the resolver is to blame, and is not waited for any more."""
        self.dial("www.example:80", limit=3.0)
        self.clock.advance(3.0)
        text = self.assertFailed(NameNotResolved, InetAddress("www.example", 80))
        self.assertIn("the resolver did not answer within 3 s", text)

    def test_late_answer(self) -> None:
        """An answer that comes after all is not used."""
        dialling = self.dial("www.example:80")
        (answer,) = self.context.names.waiting.values()
        dialling.cancel()
        answer(["10.0.0.1"])
        self.assertEqual(self.tried, [])
        self.assertOver()

    def test_source_address(self) -> None:
        """With src= only addresses of its family are tried."""
        self.context.names.known["www.example"] = ["2001:db8::1", "10.0.0.1", "2001:db8::2"]
        self.dial("www.example:80", src="192.0.2.1")
        self.clock.advance(4)
        self.assertEqual(self.tried, ["10.0.0.1:80"])

    def test_side_by_side(self) -> None:
        """RFC 8305 section 5: the next address is tried after 250 ms; the first to connect wins."""
        self.context.names.known["www.example"] = ["2001:db8::1", "10.0.0.1", "2001:db8::2"]
        self.dial("www.example:80")
        self.clock.advance(ATTEMPT_DELAY - 0.01)
        self.assertEqual(self.tried, ["[2001:db8::1]:80"])
        self.clock.advance(0.01)
        self.assertEqual(self.tried, ["[2001:db8::1]:80", "10.0.0.1:80"])
        self.context.attempts[1].succeeds()
        self.assertTrue(self.context.attempts[0].cancelled)
        self.assertOver(reached=1)
        self.assertEqual(self.reached[0][0].address, InetAddress("10.0.0.1", 80))

    def test_first_connects_late(self) -> None:
        """An attempt is not given up because others were started after it."""
        self.context.names.known["www.example"] = ["2001:db8::1", "10.0.0.1"]
        self.dial("www.example:80")
        self.clock.advance(1)
        self.context.attempts[0].succeeds()
        self.assertTrue(self.context.attempts[1].cancelled)
        self.assertOver(reached=1)

    def test_failure_is_not_waited_out(self) -> None:
        """When an attempt fails the next address is tried at once."""
        self.context.names.known["www.example"] = ["2001:db8::1", "10.0.0.1"]
        self.dial("www.example:80")
        self.context.attempts[0].fails(ConnectFailed("no route"))
        self.assertEqual(self.tried, ["[2001:db8::1]:80", "10.0.0.1:80"])
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertFailed(ConnectRefused, InetAddress("10.0.0.1", 80))

    def test_target_waits_for_all_addresses(self) -> None:
        """The next target's turn comes when all addresses have failed, not the last one only."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2"]
        self.dial("www.example:80", "10.9.9.9:80")
        self.clock.advance(ATTEMPT_DELAY)
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertEqual(len(self.tried), 2)
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual(self.tried[2:], ["10.9.9.9:80"])

    def test_thousands_fail_at_once(self) -> None:
        """However many addresses fail within their own start, the stack does not grow with them."""
        hosts = [f"10.{index // 250}.0.{index % 250}" for index in range(5000)]
        self.context.names.known["www.example"] = hosts
        self.context.at_once = {f"{host}:80": ConnectFailed("no route") for host in hosts}
        self.dial("www.example:80")
        self.assertEqual(len(self.tried), 5000)
        self.assertFailed(ConnectFailed, InetAddress(hosts[-1], 80))

    def test_thousands_of_targets(self) -> None:
        """The same with targets."""
        targets = [f"10.{index // 250}.0.{index % 250}:80" for index in range(2000)]
        self.context.at_once = dict.fromkeys(targets, ConnectRefused("no"))
        self.dial(*targets)
        self.assertEqual(self.tried, targets)
        self.assertOver(failed=1)

    def test_exhaustion_beside_an_attempt(self) -> None:
        """No descriptor for the second address does not end the first one's attempt."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2"]
        self.context.at_once["10.0.0.2:80"] = OutOfResources("EMFILE")
        self.dial("www.example:80", "10.0.0.3:80")
        self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual(self.failures, [])
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)


class AgainTests(DialCase):
    """Names whose every address has failed."""

    def setUp(self) -> None:
        super().setUp()
        self.context.names.known["app"] = ["10.0.0.1"]
        self.context.names.answers_again = True

    def answer(self, *hosts: str) -> None:
        """The name server answers the one question that waits."""
        ((_, answer),) = self.context.names.waiting.items()
        self.context.names.waiting.clear()
        answer(hosts)

    def test_the_waiting_session_uses_the_answer(self) -> None:
        """A name has moved, its old address is dead: the same session asks again and reaches the new one."""
        self.dial("app:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual((self.context.names.doubted, self.failures), (["app"], []))
        self.answer("10.0.0.2")
        self.assertEqual(self.tried, ["10.0.0.1:80", "10.0.0.2:80"])
        self.context.attempts[1].succeeds()
        self.assertOver(reached=1)
        self.assertEqual(self.reached[0][0].address, InetAddress("10.0.0.2", 80))

    def test_only_new_addresses_are_tried(self) -> None:
        """Addresses that have failed in this dial are not tried a second time."""
        self.context.names.known["app"] = ["10.0.0.1", "10.0.0.2"]
        self.dial("app:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.answer("10.0.0.2", "10.0.0.3", "10.0.0.1")
        self.assertEqual(self.tried[2:], ["10.0.0.3:80"])

    def test_nothing_new(self) -> None:
        """The same answer again: the dial fails with what it met, and asks no third time."""
        self.dial("app:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.answer("10.0.0.1")
        self.assertEqual(self.assertFailed(ConnectRefused, InetAddress("10.0.0.1", 80)), "no")
        self.assertEqual(self.context.names.asked, [("app", 600.0)] * 2)

    def test_the_new_one_fails_too(self) -> None:
        """A name is asked for again once in a dial."""
        self.dial("app:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.answer("10.0.0.2")
        self.context.attempts[1].fails(ConnectTimedOut("slow"))
        self.assertEqual(self.assertFailed(ConnectTimedOut, InetAddress("10.0.0.2", 80)), "slow")

    def test_other_targets_come_first(self) -> None:
        """The name is looked up at once, and the next target is tried meanwhile."""
        self.dial("app:80", "10.9.9.9:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual(self.context.names.doubted, ["app"])
        self.assertEqual(self.tried, ["10.0.0.1:80", "10.9.9.9:80"])
        self.context.attempts[1].fails(ConnectTimedOut("slow"))
        self.answer("10.0.0.2")
        self.context.attempts[2].succeeds()
        self.assertOver(reached=1)
        self.assertEqual(self.reached[0][1].label, "app:80")

    def test_last_problem_stays(self) -> None:
        """When the answers bring nothing new, the problem of the last target is told, with its address."""
        self.context.names.known["db"] = ["10.0.0.7"]
        self.dial("app:80", "db:80", "10.9.9.9:80")
        for attempt, problem in enumerate(
            (ConnectRefused("no"), ConnectRefused("no"), ConnectTimedOut("slow"))
        ):
            self.context.attempts[attempt].fails(problem)
        self.answer("10.0.0.1")
        self.answer("10.0.0.7")
        self.assertEqual(self.assertFailed(ConnectTimedOut, InetAddress("10.9.9.9", 80)), "slow")

    def test_slots(self) -> None:
        """A target that is tried again has a slot of its limit again, and gives it back."""
        one = self.destination("app:80", Options(max_conns_per_target=1))
        self.dial(one)
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual(one.occupancy.taken, 1)
        self.answer("10.0.0.1")
        self.assertEqual((one.occupancy.taken, one.occupancy.failures), (0, 1))
        self.dial(one)
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.dialling.cancel()
        self.assertEqual(one.occupancy.taken, 0)
        self.assertEqual(self.context.names.waiting, {})

    def test_somebody_took_the_slot(self) -> None:
        """A target whose last slot was taken meanwhile is not tried again."""
        one = self.destination("app:80", Options(max_conns_per_target=1))
        self.dial(one, "10.9.9.9:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        second = self.dial(one)
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertEqual([type(problem) for problem, _ in self.failures], [TargetsFull])
        second.cancel()
        self.assertOver(failed=1)

    def test_what_asking_cannot_mend(self) -> None:
        """No address, an address that a filter refuses, a process without descriptors: nobody is asked."""
        self.context.names.known["nothing"] = []
        self.dial("nothing:80")
        self.dial("app:80", permits=lambda address: False)
        self.dial("app:80")
        self.context.attempts[0].fails(OutOfResources("EMFILE"))
        self.assertOver(failed=3)
        self.assertEqual(self.context.names.doubted, [])

    def test_out_of_time(self) -> None:
        """At the deadline the upstream is to blame, not the name server that was asked again."""
        self.dial("app:80", limit=3.0)
        self.context.attempts[0].fails(ConnectTimedOut("no answer within 2 s"))
        self.clock.advance(3.0)
        self.assertEqual(
            self.assertFailed(ConnectTimedOut, InetAddress("10.0.0.1", 80)), "no answer within 2 s"
        )

    def test_names_of_clients(self) -> None:
        """A name that a client chose is asked for among the clients' names, for that client."""
        clients = FakeNames()
        clients.known["app"] = ["10.0.0.5"]
        make_context = RelayContext(
            reactor=cast(Any, self.clock),
            platform=Platform(own_sockets=True, epoll=False),
            names=cast(Any, self.context.names),
            streams=cast(Any, self.context),
            client_names=cast(Any, clients),
        )
        chosen = evolve(self.destination("app:80", Options()), is_chosen=True)
        asker = Asker("proxy", "192.0.2.1")
        settings = DialSettings(make_context, cast(Any, self.context), asker=asker)
        Dial(settings, InOrder([chosen]), 15.0, self).start()
        self.assertEqual((self.context.names.asked, clients.askers), ([], [asker]))
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual((self.context.names.doubted, clients.doubted), ([], ["app"]))

    def test_refused(self) -> None:
        """A look-up that a limit refuses fails the dial at once and says which limit."""
        self.context.names.refuses = "32 look-ups of this client are under way"
        self.dial("other:80")
        self.context.names.waiting.clear()
        text = self.assertFailed(NameNotResolved, InetAddress("other", 80))
        self.assertEqual(text, "other: 32 look-ups of this client are under way")

    def test_failures_are_listed(self) -> None:
        """
        Each attempt that failed is kept with its cause, also when another one succeeds; their number is
        bounded.
        """
        self.context.names.known["many"] = [f"10.1.0.{index}" for index in range(100)]
        self.context.at_once = {f"10.1.0.{index}:80": ConnectRefused("no") for index in range(100)}
        dialling = self.dial("app:80", "many:80", "10.9.9.9:80")
        self.context.attempts[0].fails(ConnectTimedOut("slow"))
        self.context.attempts[-1].succeeds()
        self.assertOver(reached=1)
        self.assertEqual(
            dialling.failures[:2],
            [
                FailedAttempt("app:80", InetAddress("10.0.0.1", 80), "slow"),
                FailedAttempt("many:80", InetAddress("10.1.0.0", 80), "no"),
            ],
        )
        self.assertEqual(len(dialling.failures), MAX_FAILURES)
        self.assertEqual(self.attempts, tuple(dialling.failures))


class PermitTests(DialCase):
    """Addresses that a filter does not permit."""

    def test_literal(self) -> None:
        """One that is refused is not dialled, and the failure says whose word it was."""
        asked: list[Address] = []
        self.dial("192.0.2.1:80", permits=lambda address: asked.append(address) is not None)
        text = self.assertFailed(NotPermitted, InetAddress("192.0.2.1", 80))
        self.assertEqual((self.tried, asked), ([], [InetAddress("192.0.2.1", 80)]))
        self.assertEqual(text, "192.0.2.1:80: a filter does not permit this destination")

    def test_unix(self) -> None:
        """Unix addresses are asked for too."""
        self.dial("unix:/run/secret", permits=lambda address: not isinstance(address, UnixAddress))
        self.assertFailed(NotPermitted, UnixAddress("/run/secret"))

    def test_permitted(self) -> None:
        """One that is permitted is dialled."""
        self.dial("192.0.2.1:80", permits=lambda address: True)
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)

    def test_names(self) -> None:
        """What the resolver says is judged, not the name: only addresses that are permitted are tried."""
        self.context.names.known["app"] = ["10.0.0.1", "192.0.2.2", "10.0.0.3", "192.0.2.4"]
        self.dial("app:80", permits=lambda address: not str(address).startswith("10."))
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertEqual(self.tried, ["192.0.2.2:80", "192.0.2.4:80"])

    def test_no_address_is_left(self) -> None:
        """A name whose every address is refused is as one that has none; the next target has its turn."""
        self.context.names.known["app"] = ["10.0.0.1", "10.0.0.2"]
        self.dial("app:80", "192.0.2.9:80", permits=lambda address: not str(address).startswith("10."))
        self.assertEqual(self.tried, ["192.0.2.9:80"])
        self.context.attempts[0].succeeds()
        self.assertOver(reached=1)
        self.dial("192.0.2.9:80", "app:80", permits=lambda address: not str(address).startswith("10."))
        self.reached.clear()
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertFailed(NotPermitted, InetAddress("10.0.0.1", 80))

    def test_our_mistake(self) -> None:
        """A word of permission that raises ends this dial, also when the resolver answers later."""

        def permits(address: Address) -> bool:
            raise Fault

        self.dial("app:80", permits=permits)
        for who in tuple(self.context.names.waiting):
            self.context.names.waiting.pop(who)(["192.0.2.1"])
        self.assertOver(mistakes=1)


class HandshakeTests(DialCase):
    """TLS on top: the dial is the stream's first owner."""

    def handshaking(self, *targets: str, **options: Any) -> FakeStream:
        """A dial that waits for a handshake."""
        self.dial(*targets, **options)
        self.context.attempts[0].succeeds()
        self.assertEqual(self.reached, [])
        return self.context.streams[0]

    def test_through(self) -> None:
        """The stream is handed over when the handshake is through."""
        stream = self.handshaking("tls:10.0.0.1:443")
        stream.owner.opened(cast(Any, stream))
        self.assertOver(reached=1)
        self.assertIs(self.reached[0][0], stream)
        self.assertEqual(stream.calls, ["own"])

    def test_failed(self) -> None:
        """The reason stands in the problem; the next target is tried."""
        stream = self.handshaking("tls:10.0.0.1:443", "10.0.0.2:80")
        stream.loses(Loss.RESET, "certificate verify failed")
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertFailed(ConnectRefused, InetAddress("10.0.0.2", 80))

    def test_failed_at_last(self) -> None:
        """With no target left it is told."""
        stream = self.handshaking("tls:10.0.0.1:443")
        stream.loses(Loss.RESET, "certificate verify failed")
        text = self.assertFailed(TLSFailed, InetAddress("10.0.0.1", 443))
        self.assertEqual(text, "tls:10.0.0.1:443: certificate verify failed")

    def test_closed_during_it(self) -> None:
        """A peer that says nothing of why is quoted so."""
        self.handshaking("tls:10.0.0.1:443").loses(Loss.ORDERLY)
        text = self.assertFailed(TLSFailed, InetAddress("10.0.0.1", 443))
        self.assertIn("closed during the TLS handshake", text)

    def test_next_address_after_a_handshake(self) -> None:
        """A handshake that fails leaves the name's other addresses to be tried."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2"]
        stream = self.handshaking("tls:www.example:443")
        stream.loses(Loss.RESET, "no")
        self.assertEqual(self.tried, ["10.0.0.1:443", "10.0.0.2:443"])
        self.context.attempts[1].succeeds()
        second = self.context.streams[1]
        second.owner.opened(cast(Any, second))
        self.assertOver(reached=1)

    def test_loser_of_the_race(self) -> None:
        """An address that lost the race is tried when the TLS handshake with the winner fails."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
        self.dial("tls:www.example:443")
        self.clock.advance(ATTEMPT_DELAY)
        self.clock.advance(ATTEMPT_DELAY)
        self.context.attempts[2].succeeds()
        self.assertTrue(self.context.attempts[0].cancelled)
        self.context.streams[0].loses(Loss.RESET, "certificate has expired")
        self.assertEqual([attempt.name for attempt in self.context.attempts[3:]], ["10.0.0.1:443"])
        self.context.attempts[3].fails(ConnectTimedOut("slow"))
        self.context.attempts[4].fails(ConnectTimedOut("slow"))
        self.assertEqual([one.name for one in self.context.attempts[4:]], ["10.0.0.2:443", "10.0.0.4:443"])
        self.context.attempts[5].succeeds()
        last = self.context.streams[1]
        last.owner.opened(cast(Any, last))
        self.assertOver(reached=1)

    def test_takes_too_long(self) -> None:
        """connect-timeout holds for the handshake as well; the stream is aborted."""
        stream = self.handshaking("tls:10.0.0.1:443", connect_timeout=2.0)
        self.clock.advance(2.0)
        self.assertEqual(stream.calls, ["own", "abort"])
        text = self.assertFailed(TLSFailed, InetAddress("10.0.0.1", 443))
        self.assertIn("no TLS handshake within 2 s", text)

    def test_old_handshake_ends_late(self) -> None:
        """The end of a handshake that was given up says nothing about the one that follows it."""
        self.handshaking("tls:10.0.0.1:443", "tls:10.0.0.2:443", connect_timeout=2.0)
        first = self.context.streams[0]
        first.later = False
        abort, first.abort = first.abort, lambda: None  # type: ignore[method-assign]
        self.clock.advance(2.0)
        self.context.attempts[1].succeeds()
        abort()
        self.assertTrue(first.is_lost)
        self.assertEqual(self.failures, [])
        first.owner.opened(cast(Any, first))
        self.assertEqual(self.reached, [])
        self.clock.advance(1.9)
        second = self.context.streams[1]
        second.owner.opened(cast(Any, second))
        self.assertOver(reached=1)

    def test_dial_timeout_during_it(self) -> None:
        """At the deadline the handshake is to blame: the target had answered."""
        stream = self.handshaking("tls:10.0.0.1:443", limit=1.0)
        self.clock.advance(1.0)
        self.assertFailed(TLSFailed, InetAddress("10.0.0.1", 443))
        self.assertEqual(stream.calls, ["own", "abort"])

    def test_events_without_meaning(self) -> None:
        """Ends and failed writes during a handshake say nothing: the loss follows."""
        stream = self.handshaking("tls:10.0.0.1:443")
        for tell in (stream.owner.ended, stream.owner.end_sent):
            tell(cast(Any, stream))
        stream.owner.writing_failed(cast(Any, stream), "Connection reset by peer")
        stream.owner.thrown_away(cast(Any, stream), 1)
        self.assertEqual((self.reached, self.failures), ([], []))

    def test_no_memory_to_begin(self) -> None:
        """A kernel that cannot watch the socket ends the dial; no timer of the handshake is left."""
        self.context.problem = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        self.dial("tls:10.0.0.1:443", "10.0.0.2:80")
        self.context.attempts[0].succeeds()
        self.assertFailed(OutOfResources, InetAddress("10.0.0.1", 443))


class MistakeTests(DialCase):
    """Errors of the kernel after the connect, and exceptions."""

    def test_no_watch_left(self) -> None:
        """ENOSPC of epoll is ours: no other target is tried."""
        self.context.problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.context.attempts[0].succeeds()
        self.assertFailed(OutOfResources, InetAddress("10.0.0.1", 80))

    def test_stream_cannot_be_made(self) -> None:
        """Any other error is this target's."""
        self.context.problem = OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.context.attempts[0].succeeds()
        self.context.problem = None
        self.context.attempts[1].succeeds()
        self.assertOver(reached=1)

    def test_exceptions_reach_the_owner(self) -> None:
        """A mistake at any call from outside ends the dial, and nothing is raised into the caller."""
        self.context.at_once["10.0.0.2:80"] = Fault("start")
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.assertOver(mistakes=1)
        self.assertIs(self.mistakes[0].type, Fault)
        self.assertTrue(self.context.attempts[1].cancelled)

    def test_mistake_of_a_stream_maker(self) -> None:
        """The same where the stream is made."""
        self.context.problem = Fault("plain")
        self.dial("10.0.0.1:80")
        self.context.attempts[0].succeeds()
        self.assertOver(mistakes=1)

    def test_mistake_in_an_answer(self) -> None:
        """The resolver's other askers are not harmed by ours."""
        self.context.at_once["10.0.0.1:80"] = Fault("start")
        self.dial("www.example:80")
        self.context.names.waiting.popitem()[1](["10.0.0.1"])
        self.assertOver(mistakes=1)

    def test_cannot_even_be_cancelled(self) -> None:
        """An attempt that raises when it is cancelled is logged; the owner is told of the first mistake."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2"]
        self.context.at_once["10.0.0.2:80"] = Fault("start")
        self.dial("www.example:80")
        self.context.cancel_fault = True
        self.clock.advance(ATTEMPT_DELAY)
        self.assertEqual([failure.value.args for failure in self.mistakes], [("start",)])
        self.assertEqual([failure.value.args for failure in self.flushLoggedErrors(Fault)], [("cancel",)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mistake_while_it_is_given_up(self) -> None:
        """A deadline at which an attempt cannot be cancelled."""
        self.dial("10.0.0.1:80", limit=1.0)
        self.context.cancel_fault = True
        self.clock.advance(1.0)
        self.assertEqual(len(self.mistakes), 1)
        self.assertEqual(self.failures, [])


class CancelTests(DialCase):
    """Cancelled at every moment: silent, nothing left."""

    def cancel(self) -> None:
        """The session is over."""
        self.dialling.cancel()
        self.assertOver()
        for attempt in self.context.attempts:
            self.assertTrue(attempt.cancelled or self.context.streams)

    def test_while_connecting(self) -> None:
        """The attempt is cancelled."""
        self.dial("10.0.0.1:80", "10.0.0.2:80")
        self.cancel()
        self.assertTrue(self.context.attempts[0].cancelled)
        self.assertEqual(self.tried, ["10.0.0.1:80"])

    def test_between_addresses(self) -> None:
        """All attempts are cancelled, and none is started any more."""
        self.context.names.known["www.example"] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        self.dial("www.example:80")
        self.clock.advance(ATTEMPT_DELAY)
        self.cancel()
        self.clock.advance(60)
        self.assertEqual([attempt.cancelled for attempt in self.context.attempts], [True, True])

    def test_while_resolving(self) -> None:
        """The resolver forgets who asked."""
        self.dial("www.example:80")
        self.cancel()

    def test_during_a_handshake(self) -> None:
        """The stream is aborted; its loss tells nobody anything."""
        self.dial("tls:10.0.0.1:443")
        self.context.attempts[0].succeeds()
        self.cancel()
        self.assertEqual(self.context.streams[0].calls, ["own", "abort"])
        self.assertTrue(self.context.streams[0].is_lost)

    def test_twice(self) -> None:
        """A second time does nothing."""
        self.dial("10.0.0.1:80")
        self.cancel()
        self.cancel()


class PortableTests(DialCase):
    """A platform where sockets cannot be our own."""

    own_sockets = False

    def test_endpoints(self) -> None:
        """Addresses become Twisted's endpoints, and keep their address in the dial."""
        self.dial("10.0.0.1:80", "[::1]:80", "unix:@name", src="192.0.2.1", connect_timeout=3.0)
        for attempt in list(self.context.attempts):
            self.assertIsNotNone(attempt.address)
        self.context.attempts[0].fails(ConnectRefused("no"))
        self.context.attempts[1].fails(ConnectRefused("no"))
        self.assertEqual(
            [type(one) for one in self.context.endpoints],
            [TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint],
        )
        self.context.attempts[2].fails(ConnectRefused("no"))
        self.assertFailed(ConnectRefused, UnixAddress("@name"))

    def test_tls(self) -> None:
        """TLS is wrapped around the endpoint."""
        self.dial("tls:10.0.0.1:443")
        self.assertNotIsInstance(self.context.endpoints[0], TCP4ClientEndpoint)

    def test_abstract_names(self) -> None:
        """The @ of an abstract name becomes the NUL that the kernel wants."""
        reactor = MemoryReactor()
        endpoint: Any = portable_endpoint(cast(Any, reactor), UnixAddress("@name"), 10.0)
        endpoint.connect(Factory())
        self.assertEqual([client[0] for client in reactor.unixClients], ["\0name"])


class ClockWithWriters(Clock):
    """A reactor that is asked to forget descriptors it never knew."""

    def removeWriter(self, writer: object) -> None: ...


class ExhaustionTests(SynchronousTestCase):
    """Errors that are injected at the system calls of a dial end that dial only, with ``RC``."""

    def setUp(self) -> None:
        """A real dial on a clock; nothing it does gets as far as waiting for a socket."""
        self.problems: list[DialError] = []
        self.clock = ClockWithWriters()

    def dialled(self, stream: Any, destination: Destination) -> None:
        self.fail("nobody can be reached")

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        self.problems.append(problem)

    def broke(self, failure: Failure) -> None:
        failure.raiseException()

    def test_socket_bind_connect(self) -> None:
        """Whichever call fails, the socket is closed and the other target is not tried."""
        for code in (errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL):
            for call in ("socket", "bind", "connect"):
                with self.subTest(call=call, code=errno.errorcode[code]):
                    self.check(call, code)

    def check(self, call: str, code: int) -> None:
        """One error at one call."""
        made: list[BrokenSocket] = []

        class BrokenSocket(socket.socket):
            def __init__(self, *arguments: Any) -> None:
                if call == "socket":
                    raise OSError(code, os.strerror(code))
                super().__init__(*arguments)
                made.append(self)

            def bind(self, address: Any) -> None:
                if call == "bind":
                    raise OSError(code, os.strerror(code))

            def connect_ex(self, address: Any) -> int:
                return code

        self.patch(connect_module, "bare_socket", BrokenSocket)
        self.problems.clear()
        options = Options(src="127.0.0.1")
        context = RelayContext(
            reactor=cast(Any, self.clock),
            platform=Platform(own_sockets=True, epoll=False),
            names=cast(Any, FakeNames()),
            streams=cast(Any, Context()),
        )
        target = Destination("a", options, address=InetAddress("127.0.0.1", 9))
        settings = DialSettings(context, context.streams)
        Dial(settings, InOrder([target, evolve(target, label="b")]), 15.0, self).start()
        self.assertEqual([type(problem) for problem in self.problems], [OutOfResources])
        self.assertLessEqual(len(made), 1)
        self.assertTrue(all(sock.fileno() == -1 for sock in made))
        self.assertEqual(self.clock.getDelayedCalls(), [])
