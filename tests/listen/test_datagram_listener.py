"""Tests of `portfwd.listen.datagram_listener` and its correspondents: associations between real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from portfwd.errors import StartError
from portfwd.kernel.datagrams import LARGEST_UNIX
from portfwd.limits.descriptors import DescriptorBudget, Share
from portfwd.listen import datagram_clients as reception
from portfwd.listen import datagram_listener, refused_clients
from portfwd.listen.datagram_client import DatagramClient
from portfwd.listen.datagram_listener import BATCH, NEW_AT_ONCE, DatagramListener
from portfwd.listen.held_datagrams import OVERHEAD, HeldDatagram
from portfwd.listen.last_associations import LAST_SILENCE
from portfwd.listen.refused_clients import REFUSED_FOR
from portfwd.rules import parse
from portfwd.service.run.reload import ReloadResult
from portfwd.values import CloseReason, InetAddress, SessionSummary, Side
from tests.events import EventsOf
from tests.listen.post import TIMEOUT, PostCase
from tests.places import short_directory


class AssociationTests(PostCase):
    """Clients, each with an upstream's socket of its own."""

    def test_there_and_back(self) -> None:
        """Any number of datagrams either way; a server may go on by itself; counts and times are told."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        for answer in (b"one", b"", b"three"):
            self.upstream.sendto(answer, there)
        self.assertEqual([self.receive(client)[0] for _ in range(3)], [b"one", b"", b"three"])
        self.assertEqual(self.ask(client, b""), there)
        self.advance(72.1)
        (line,) = self.closed_lines
        self.assertEqual((line.to_upstream.bytes, line.to_upstream.writes), (8, 2))
        self.assertEqual((line.to_client.bytes, line.to_client.reads), (8, 3))
        self.assertEqual((line.reason, line.relay), (CloseReason.UPSTREAM_IDLE, "datagrams"))
        self.assertEqual(line.client, InetAddress(*client.getsockname()))
        self.assertEqual(line.local, InetAddress(*self.where()))
        self.assertEqual(line.upstream, InetAddress(*self.upstream.getsockname()))
        self.assertEqual(len(self.opened_lines), 1)
        self.assertEqual(len(self.listener.table), 0)

    def test_two_clients(self) -> None:
        """Each gets its own answers, however they are interleaved."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        one, two = self.datagrams(), self.datagrams()
        for_one, for_two = self.ask(one), self.ask(two)
        self.assertNotEqual(for_one, for_two)
        self.upstream.sendto(b"two", for_two)
        self.upstream.sendto(b"one", for_one)
        self.assertEqual(self.receive(one)[0], b"one")
        self.assertEqual(self.receive(two)[0], b"two")
        self.assert_quiet(one, two)

    def test_largest(self) -> None:
        """65 507 bytes are the most that IPv4 carries."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client, bytes(65_507))
        self.upstream.sendto(bytes(65_507), there)
        self.assertEqual(len(self.receive(client)[0]), 65_507)

    def test_strangers(self) -> None:
        """Nobody but the upstream can send to a client."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client, stranger = self.datagrams(), self.datagrams()
        there = self.ask(client)
        stranger.sendto(b"forged", there)
        self.assert_quiet(client)

    def test_idle_in_both_directions(self) -> None:
        """Datagrams of either side keep an association; silence of both ends it."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp idle=10s")
        client = self.datagrams()
        there = self.ask(client)
        for _ in range(3):
            self.advance(8)
            self.upstream.sendto(b"push", there)
            self.receive(client)
        self.advance(8)
        self.ask(client)
        self.assertEqual(self.closed_lines, [])
        self.advance(10.1)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_IDLE])

    #: Whether an association to a closed port is kept for a moment.
    keeps = True

    def closed_upstream(self) -> int:
        """Close the upstream; its port is returned."""
        port = int(self.upstream.getsockname()[1])
        self.upstream.close()
        return port

    def reopen_upstream(self, port: int) -> None:
        """Open it again."""
        self.upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.upstream.close)
        self.upstream.bind(("127.0.0.1", port))
        self.upstream.setblocking(False)

    def test_port_unreachable(self) -> None:
        """A closed port ends the association, and no datagram is made up; the next one begins another."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        port = self.closed_upstream()
        client = self.datagrams()
        client.sendto(b"lost", self.where())
        self.assert_quiet(client)
        if self.keeps:
            self.advance(2.5)
            self.assertEqual(self.closed_lines, [])
            self.advance(2.5)
        (line,) = self.closed_lines
        self.assertEqual((line.reason, line.ended_first), (CloseReason.UPSTREAM_RESET, Side.UPSTREAM))
        self.assertEqual(line.detail, "Connection refused")
        self.reopen_upstream(port)
        self.ask(client)

    def test_storm_to_a_closed_port(self) -> None:
        """A client that goes on sending to a closed port has one association, which outlives the outage."""
        if not self.keeps:
            raise SkipTest("ports of Twisted's end with an ICMP error")
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        port = self.closed_upstream()
        for _ in range(30):
            for _ in range(10):
                client.sendto(b"lost", self.where())
            self.advance(1)
        self.assertEqual((self.closed_lines, self.listener.accepted), ([], 1))
        self.reopen_upstream(port)
        self.assertEqual(self.ask(client), there)
        self.advance(0.1)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")
        self.advance(30)
        self.assertEqual(self.closed_lines, [])

    def test_ipv6(self) -> None:
        """Clients over IPv6, also to an upstream over IPv4."""
        try:
            client = self.datagrams("::1")
        except OSError as problem:
            raise SkipTest(f"needs IPv6: {problem}") from problem
        self.forward("r: [::1]:0/udp -> 127.0.0.1:UP/udp")
        there = self.ask(client, host="::1")
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")

    def test_next_target(self) -> None:
        """A target to which there is no way is passed over."""
        self.forward("r: 127.0.0.1:0/udp -> 255.255.255.255:9/udp, 127.0.0.1:UP/udp")
        self.ask(self.datagrams())

    def test_first_datagram_goes_to_the_next_target(self) -> None:
        """What a closed port refused is given to the next target; no client has to ask again."""
        closed = [self.closed_port() for _ in range(2)]
        self.forward(
            f"r: 127.0.0.1:0/udp -> 127.0.0.1:{closed[0]}/udp, 127.0.0.1:{closed[1]}/udp, 127.0.0.1:UP/udp"
            " balance=first"
        )
        client = self.datagrams()
        there = self.ask(client)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")
        refused = [CloseReason.UPSTREAM_RESET] * 2
        self.assertEqual([line.reason for line in self.closed_lines], refused)
        self.assertEqual(self.ask(client), there)

    def test_first_datagram_is_refused_everywhere(self) -> None:
        """Each target gets it once; where all refuse it nothing more comes of it."""
        closed = [self.closed_port() for _ in range(2)]
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{closed[0]}/udp, 127.0.0.1:{closed[1]}/udp")
        client = self.datagrams()
        client.sendto(b"lost", self.where())
        self.assert_quiet(client)
        for _ in range(4):
            self.advance(2.5)
        self.assert_quiet(client)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET] * 2)
        self.assertEqual(self.listener.accepted, 2)

    def test_answered_first(self) -> None:
        """A target that has answered and goes away later gets no datagram passed on that is old."""
        closed = self.closed_port()
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp, 127.0.0.1:{closed}/udp balance=first")
        client = self.datagrams()
        there = self.ask(client)
        self.upstream.sendto(b"answer", there)
        self.receive(client)
        self.upstream.close()
        client.sendto(b"lost", self.where())
        self.assert_quiet(client)
        self.assertEqual(self.listener.accepted, 1)

    def closed_port(self) -> int:
        """A port that nobody has."""
        closed = self.datagrams()
        port = int(closed.getsockname()[1])
        closed.close()
        return port

    def test_next_target_after_an_unreachable_port(self) -> None:
        """A target whose port was unreachable comes behind the others for a while."""
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{self.closed_port()}/udp, 127.0.0.1:UP/udp")
        for _ in range(3):
            self.ask(self.datagrams())
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET])
        self.advance(31)
        self.ask(self.datagrams())
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET] * 2)

    def test_every_target_unreachable(self) -> None:
        """When every target's port was unreachable, the association to the last one is kept."""
        if not self.keeps:
            raise SkipTest("ports of Twisted's end with an ICMP error")
        one, two = self.closed_port(), self.closed_port()
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{one}/udp, 127.0.0.1:{two}/udp")
        client = self.datagrams()
        for _ in range(20):
            client.sendto(b"lost", self.where())
            self.turn()
        self.assertEqual((len(self.closed_lines), self.listener.accepted), (1, 2))

    def test_answers(self) -> None:
        """``answers=1``: an association ends when each of the client's datagrams was answered."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp answers=1")
        client = self.datagrams()
        there = self.ask(client, b"A?")
        self.ask(client, b"AAAA?")
        for answer in (b"A", b"AAAA"):
            self.assertEqual(self.closed_lines, [])
            self.upstream.sendto(answer, there)
            self.assertEqual(self.receive(client)[0], answer)
        self.turn()
        (line,) = self.closed_lines
        self.assertEqual((line.reason, line.ended_first), (CloseReason.NORMAL, Side.UPSTREAM))
        self.assertNotEqual(self.ask(client), there)

    def test_unproven_clients(self) -> None:
        """A client gets so many answers until it sends again; then as many as there are."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp answers-before-reply=3")
        for forged in (True, False):
            client = self.datagrams()
            there = self.ask(client)
            for number in range(6):
                self.upstream.sendto(b"%d" % number, there)
            self.assertEqual([self.receive(client)[0] for _ in range(3)], [b"0", b"1", b"2"])
            self.assert_quiet(client)
            if not forged:
                self.assertEqual(self.ask(client), there)
                for number in range(6):
                    self.upstream.sendto(b"%d" % number, there)
                self.assertEqual([self.receive(client)[0] for _ in range(6)], [b"%d" % n for n in range(6)])
        self.advance(73)
        self.assertEqual([line.dropped for line in self.closed_lines], [(("unproven", 3),)] * 2)

    def test_unproven_with_filters(self) -> None:
        """So it is with filters, and by default with a larger number."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp\n    filter faults latency delay=0s")
        client = self.datagrams()
        there = self.ask(client)
        for _ in range(11):
            for _ in range(10):
                self.upstream.sendto(b"x", there)
            self.turn()
        got = 0
        with contextlib.suppress(BlockingIOError):
            while client.recv(10):
                got += 1
        self.assertEqual(got, 100)

    def test_unproven_client_of_a_stream(self) -> None:
        """So it is where a stream answers."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{port} answers-before-reply=2")
            client = self.datagrams()
            client.sendto(b"question", self.where())
            self.turn()
            server.settimeout(TIMEOUT)
            upstream, _ = server.accept()
            with upstream:
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(4):
                    upstream.sendall(b"answer")
                    self.turn()
                self.assertEqual([self.receive(client)[0] for _ in range(2)], [b"answer"] * 2)
                self.assert_quiet(client)

    def test_bandwidth(self) -> None:
        """``bandwidth=`` drops what is beyond it, in each direction, and the closing line counts it."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp bandwidth-up=20KiB")
        client = self.datagrams()
        for _ in range(10):
            client.sendto(bytes(1024), self.where())
        self.turn()
        self.assertEqual([len(self.receive(self.upstream)[0]) for _ in range(2)], [1024, 1024])
        self.assert_quiet(self.upstream)
        self.advance(0.1)
        client.sendto(bytes(1024), self.where())
        self.receive(self.upstream)
        self.advance(73)
        self.assertEqual(self.closed_lines[-1].dropped, (("bandwidth", 8),))

    def test_bandwidth_to_a_stream(self) -> None:
        """So it is where the other side is a stream, whose own direction waits instead."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{server.getsockname()[1]} bandwidth=20KiB")
            client = self.datagrams()
            for _ in range(10):
                client.sendto(bytes(1024), self.where())
                self.turn(3)
            self.turn()
            upstream, _ = server.accept()
            with upstream:
                upstream.setblocking(False)
                self.turn()
                self.assertEqual(len(upstream.recv(65536)), 2048)
                upstream.sendall(bytes(10_000))
                self.turn()
                got = 0
                for _ in range(6):
                    self.advance(0.1)
                    try:
                        while True:
                            got += len(client.recv(65536))
                    except BlockingIOError:
                        continue
                self.assertEqual(got, 10_000)

    def test_storm_without_an_upstream(self) -> None:
        """A client for whom no upstream could be reached has no other association for a second."""
        self.forward("r: 127.0.0.1:0/udp -> 255.255.255.255:9/udp")
        client = self.datagrams()
        for expected in (1, 2):
            for _ in range(20):
                client.sendto(b"lost", self.where())
                self.turn(3)
            self.assertEqual(len(self.closed_lines), expected)
            self.advance(REFUSED_FOR)
        self.assertEqual(self.listener.refused, 38)

    def test_no_target(self) -> None:
        """Without any the association is over, and says why."""
        self.forward("r: 127.0.0.1:0/udp -> 255.255.255.255:9/udp")
        self.datagrams().sendto(b"lost", self.where())
        self.turn()
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.CONNECT_REFUSED])

    def test_from_nowhere(self) -> None:
        """Who sends from port 0 cannot be answered, and gets no association."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        nowhere = ("127.0.0.1", 0)
        self.listener.take(HeldDatagram(self.listener, nowhere, nowhere, (), b""))
        self.assertEqual((self.listener.accepted, len(self.listener.table)), (0, 0))

    def test_killed(self) -> None:
        """An operator can end an association."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.ask(self.datagrams())
        self.forwarder.cut(CloseReason.KILLED)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.KILLED])
        self.assertEqual(len(self.listener.table), 0)


class SourceAddressTests(PostCase):
    """Where answers leave from."""

    def test_answers_leave_from_where_the_client_sent_to(self) -> None:
        """A listener on every address answers from the one that was asked, each with its association."""
        for listen in ("0.0.0.0:0/udp", ":0/udp"):
            self.forward(f"r: {listen} -> 127.0.0.1:UP/udp")
            client = self.datagrams()
            for host in ("127.0.0.1", "127.0.0.5", "127.0.0.6", "127.0.0.5"):
                there = self.ask(client, host=host)
                self.upstream.sendto(b"answer", there)
                self.assertEqual(self.receive(client), (b"answer", self.where(host=host)))
            self.assertEqual(len(self.listener.table), 3)
            locals_ = {str(one.local) for one in self.listener.table}
            self.assertEqual(
                {local.rpartition(":")[0] for local in locals_}, {"127.0.0.1", "127.0.0.5", "127.0.0.6"}
            )

    def test_an_address_that_went_away(self) -> None:
        """Where an answer cannot leave from where the client sent to, the kernel chooses."""
        self.forward("r: 0.0.0.0:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        (one,) = self.listener.table
        one.ancillary = datagram_listener.from_destination(bytes([192, 0, 2, 9]))
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client), (b"answer", self.where()))

    def test_no_way_back(self) -> None:
        """Where the kernel's own choice does not work either, the next answer leaves from where it should."""
        self.forward("r: 0.0.0.0:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client, host="127.0.0.6")
        no_way = OSError(errno.ENETUNREACH, "no way")
        sock = self.listener.sock
        with (
            mock.patch.object(sock, "sendmsg", side_effect=no_way),
            mock.patch.object(sock, "sendto", side_effect=no_way),
        ):
            (one,) = self.listener.table
            self.assertFalse(one.send(b"lost"))
        self.assertEqual(self.listener.unsent, 1)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client), (b"answer", self.where(host="127.0.0.6")))

    def test_an_answer_that_cannot_be_sent(self) -> None:
        """One answer that the kernel refuses is no reason to send the next from another address."""
        self.forward("r: 0.0.0.0:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client, host="127.0.0.6")
        (one,) = self.listener.table
        self.assertFalse(one.send(bytes(65_508)))
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client), (b"answer", self.where(host="127.0.0.6")))


class BoundTests(PostCase):
    """How many associations there may be."""

    def test_the_longest_silent_makes_room(self) -> None:
        """Beyond ``max-assocs`` the one that was silent longest goes, and is counted."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp max-assocs=2")
        one, two, three = (self.datagrams() for _ in range(3))
        there = self.ask(one)
        self.ask(two)
        self.upstream.sendto(b"push", there)
        self.receive(one)
        self.ask(three)
        (line,) = self.closed_lines
        self.assertEqual((line.reason, line.client), (CloseReason.LIMIT, InetAddress(*two.getsockname())))
        self.assertEqual((len(self.listener.table), self.listener.table.evicted), (2, 1))

    def test_descriptors(self) -> None:
        """Where there are none left, the oldest goes as well; without any, nobody comes in."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp", budget=1)
        budget = self.forwarder.budget
        while not Share("r", budget).has_room(2):
            budget.limit += 1
        clients = [self.datagrams() for _ in range(3)]
        for client in clients:
            self.ask(client)
        self.assertEqual(len(self.listener.table), 2)
        self.assertEqual(self.listener.waits, 1)
        self.forwarder.budget.limit = 1
        self.forwarder.cut(CloseReason.KILLED)
        clients[0].sendto(b"lost", self.where())
        self.assert_quiet(self.upstream)

    def test_many_sources(self) -> None:
        """A flood of sources leaves no more than the bound, in the table, of descriptors and of sessions."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp max-assocs=10")
        spent = self.forwarder.budget.spent
        for _ in range(200):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
                source.sendto(b"", self.where())
            self.turn(2)
        self.turn()
        self.assertEqual(len(self.listener.table), 10)
        self.assertEqual(self.listener.accepted, self.listener.table.evicted + 10)
        self.assertEqual(self.forwarder.session_count, 10)
        self.assertEqual(self.forwarder.budget.spent, spent + 10)

    def test_max_conns(self) -> None:
        """``max-conns`` refuses, and does not judge the same client again at once."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp max-conns=1")
        one, two = self.datagrams(), self.datagrams()
        self.ask(one)
        for _ in range(3):
            two.sendto(b"refused", self.where())
            self.turn()
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.LIMIT])
        self.assertEqual(self.listener.refused, 2)
        self.forwarder.cut(CloseReason.KILLED)
        self.advance(REFUSED_FOR)
        self.ask(two)

    def test_max_conns_per_source(self) -> None:
        """One address has so many associations, whatever ports it sends from; others have theirs."""
        self.forward("r: :0/udp -> 127.0.0.1:UP/udp max-conns-per-source=2")
        for _ in range(2):
            self.ask(self.datagrams())
        self.datagrams().sendto(b"refused", self.where())
        self.assert_quiet(self.upstream)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.LIMIT])
        self.assertIn("max-conns-per-source=2", self.closed_lines[0].detail)
        other = self.datagrams("127.0.0.8")
        self.ask(other)

    def test_rate(self) -> None:
        """New associations a second; datagrams of those that are there do not count."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp rate=1/s")
        client = self.datagrams()
        for _ in range(5):
            self.ask(client)
        self.datagrams().sendto(b"refused", self.where())
        self.assert_quiet(self.upstream)
        self.advance(1.1)
        self.ask(self.datagrams())

    def test_access_list(self) -> None:
        """Who is denied gets no association, and one line a second at most; few of them are remembered."""
        self.patch(refused_clients, "MOST_REFUSED", 1)
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp\n  deny 127.0.0.1")
        clients = self.datagrams(), self.datagrams()
        for _ in range(2):
            for client in clients:
                client.sendto(b"denied", self.where())
                client.sendto(b"denied", self.where())
                self.turn()
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.ACCESS] * 4)
        self.assertEqual(self.listener.refused, 4)
        self.assertEqual(len(self.listener.table), 0)
        self.assert_quiet(self.upstream)


class StateTests(PostCase):
    """Holding, handing over and stopping."""

    def test_held(self) -> None:
        """A listener on hold begins no association; those that are there go on, and others wait."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        one, two = self.datagrams(), self.datagrams()
        self.ask(one)
        self.listener.hold()
        self.assertTrue(self.listener.held)
        self.assertEqual(self.listener.state, "held")
        for data in (b"not now", b"nor now"):
            two.sendto(data, self.where())
        self.assert_quiet(self.upstream)
        self.ask(one)
        self.listener.release()
        self.assertEqual([self.receive(self.upstream)[0] for _ in range(2)], [b"not now", b"nor now"])
        self.ask(two)
        self.assertEqual(self.listener.not_held, 0)

    def test_held_by_many(self) -> None:
        """Those who have waited are served a part at a time; who comes meanwhile is served behind them."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.listener.hold()
        clients = [self.datagrams() for _ in range(reception.HELD_BATCH + 5)]
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, self.where())
        self.turn()
        self.listener.release()
        self.assertEqual(len(self.listener.table), reception.HELD_BATCH)
        last = self.datagrams()
        last.sendto(b"last", self.where())
        wanted = [b"%d" % number for number in range(len(clients))]
        self.assertEqual([self.receive(self.upstream)[0] for _ in clients], wanted)
        self.assertEqual(self.receive(self.upstream)[0], b"last")

    def test_held_again_and_stopped(self) -> None:
        """A second pause keeps those who wait still; a stop serves them."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.listener.hold()
        for number in range(reception.HELD_BATCH + 5):
            self.datagrams().sendto(b"%d" % number, self.where())
        self.turn()
        self.listener.release()
        self.listener.hold()
        self.turn()
        self.assertEqual(len(self.listener.table), reception.HELD_BATCH)
        self.listener.take_waiting()
        self.assertEqual(len(self.listener.table), reception.HELD_BATCH + 5)
        self.listener.stop()

    def test_too_much_is_held(self) -> None:
        """What new clients send is kept up to the size of the receive buffer; the rest is counted."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp rcvbuf=8KiB")
        self.listener.hold()
        client = self.datagrams()
        for _ in range(20):
            client.sendto(bytes(500), self.where())
            self.turn(2)
        self.assertEqual(self.listener.not_held, 20 - 8 * 1024 // (500 + OVERHEAD))
        self.listener.release()
        self.listener.stop()
        self.assertEqual(self.listener.not_held, 12)

    def test_stopped_while_they_wait(self) -> None:
        """A stop at once drops those who wait, and counts them."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.listener.hold()
        for number in range(reception.HELD_BATCH + 5):
            self.datagrams().sendto(b"%d" % number, self.where())
        self.turn()
        self.listener.release()
        self.listener.stop()
        self.turn()
        self.assertEqual((self.listener.state, self.listener.not_held), ("stopping", 5))

    def test_held_before_it_begins(self) -> None:
        """A listener that is held from the beginning takes nothing before it is released."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.listener.release()
        self.assertEqual(self.listener.state, "accepting")
        self.listener.stop()
        self.listener.hold()
        self.listener.release()
        self.assertEqual(self.listener.state, "stopped")

    def test_handed_over(self) -> None:
        """New clients get the rule that it serves now; associations go on as they began."""
        other = self.datagrams()
        port = other.getsockname()[1]
        self.forward(
            f"r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp\ns: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp max-assocs=7"
        )
        one, two = self.datagrams(), self.datagrams()
        self.ask(one)
        where = self.where()
        self.listener.serve(self.forwarder.rules[1])
        self.listener.resize(5)
        self.assertEqual((self.listener.name, self.listener.table.most), ("s", 7))
        two.sendto(b"new", where)
        self.assertEqual(self.receive(other)[0], b"new")
        one.sendto(b"old", where)
        self.assertEqual(self.receive(self.upstream)[0], b"old")

    def test_stopped(self) -> None:
        """A stop takes what waits, begins nothing more, and closes when the silent ones are over."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        one, two = self.datagrams(), self.datagrams()
        there = self.ask(one)
        listener, where = self.listener, self.where()
        two.sendto(b"waiting", where)
        listener.take_waiting()
        self.assertEqual(self.receive(self.upstream)[0], b"waiting")
        stopped = self.forwarder.stopService()
        self.assertEqual(listener.state, "stopping")
        listener.stop()
        listener.take_waiting()
        self.datagrams().sendto(b"too late", where)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(one)[0], b"answer")
        self.assert_quiet(self.upstream)
        self.assertNoResult(stopped)
        for _ in range(12):
            self.advance(LAST_SILENCE / 4)
        self.successResultOf(stopped)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.DRAIN] * 2)
        self.assertEqual((listener.state, listener.address, listener.drops), ("stopped", None, 0))
        self.assertEqual(listener.sock.fileno(), -1)
        listener.stop()
        listener.run()
        listener.failed(Failure(ValueError()))

    def test_stopped_and_killed(self) -> None:
        """With its last association a listener that is stopped is closed at once."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.ask(self.datagrams())
        listener = self.listener
        listener.stop()
        self.forwarder.cut(CloseReason.KILLED)
        self.assertEqual(listener.state, "stopped")

    def test_stopped_in_a_batch(self) -> None:
        """What waits behind a datagram with which the listener ends is not read."""
        for listen in ("127.0.0.1:0/udp", "0.0.0.0:0/udp"):
            self.forward(f"r: {listen} -> 127.0.0.1:UP/udp\n  allow 192.0.2.1")
            listener, client, told = self.listener, self.datagrams(), []

            def stop(summary: SessionSummary, listener: Any = listener, told: list[Any] = told) -> None:
                told.append(summary.reason)
                listener.stop()

            for _ in range(2):
                client.sendto(b"x", self.where())
            with mock.patch.object(self, "closed", stop):
                self.turn()
            self.assertEqual((listener.state, listener.refused), ("stopped", 0))
            self.assertEqual(told, [CloseReason.ACCESS])

    def test_repr(self) -> None:
        """It says what it does."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.assertRegex(
            repr(self.listener),
            r"<DatagramListener r 127.0.0.1:\d+ accepting 0 associations accepted=0 evicted=0 drops=0>",
        )
        self.ask(self.datagrams())
        (one,) = self.listener.table
        self.assertRegex(repr(one), r"<DatagramClient 127.0.0.1:\d+ at 127.0.0.1:\d+ open>")
        one.evict()
        self.assertRegex(repr(one), "closed>")
        one.received(b"nobody takes it")
        self.assertFalse(one.send(b"nor sends it"))


class TroubleTests(PostCase):
    """Accidents stay with those who have them."""

    def test_one_client_fails(self) -> None:
        """An exception of one association ends it alone."""
        for listen in ("127.0.0.1:0/udp", "0.0.0.0:0/udp"):
            self.closed_lines.clear()
            self.forward(f"r: {listen} -> 127.0.0.1:UP/udp")
            one, two = self.datagrams(), self.datagrams()
            self.ask(one)

            def fail(data: bytes) -> None:
                raise ZeroDivisionError

            (bad,) = self.listener.table
            bad.received = fail
            one.sendto(b"x", self.where())
            self.ask(two)
            self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.INTERNAL])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_our_own_mistake(self) -> None:
        """An exception of the listener itself leaves it listening."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        with mock.patch.object(self.listener.sock, "recvfrom", side_effect=ZeroDivisionError):
            client.sendto(b"late", self.where())
            self.turn()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(self.receive(self.upstream)[0], b"late")
        self.ask(client)

    def test_errors_of_the_socket(self) -> None:
        """An error that waits in the socket is no datagram; what waits behind it is read."""
        for listen, call in (("127.0.0.1:0/udp", "recvfrom"), ("0.0.0.0:0/udp", "recvmsg")):
            self.forward(f"r: {listen} -> 127.0.0.1:UP/udp")
            sock = self.listener.sock
            read = getattr(sock, call)
            outcomes = [OSError(errno.ECONNREFUSED, "refused")]

            def receive(*arguments: int, read: Any = read, outcomes: list[OSError] = outcomes) -> Any:
                if outcomes:
                    raise outcomes.pop()
                return read(*arguments)

            with mock.patch.object(sock, call, receive):
                self.ask(self.datagrams())
            self.assertEqual(outcomes, [])

    def test_more_than_a_batch(self) -> None:
        """What is more than one part is read in turns; drops of the kernel are told of, once in a while."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        self.upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        told = EventsOf(self, reception.DatagramClients)
        for number in range(2 * BATCH + 1):
            client.sendto(b"%d" % number, self.where())
        with mock.patch.object(datagram_listener, "count_drops", return_value=5):
            got = [self.receive(self.upstream)[0] for _ in range(2 * BATCH + 1)]
            self.assertEqual(got, [b"%d" % number for number in range(2 * BATCH + 1)])
            self.assertEqual(self.listener.drops, 5)
            self.advance(11)
            for _ in range(BATCH + 1):
                client.sendto(b"x", self.where())
            self.turn()
        self.assertEqual(len([text for text in told.texts() if "dropped 5 datagrams" in text]), 1)

    def test_whoever_waits_for_its_turn_waits(self) -> None:
        """
        Datagrams that come meanwhile are read in its turn: a listener that is flooded has one, as others
        do.
        """
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client, listener = self.datagrams(), self.listener
        assert isinstance(listener, DatagramListener)
        client.sendto(b"x", self.where())
        listener.queued = True  # as the poller marks it
        listener.ready(1)
        self.assertEqual(listener.accepted, 0)
        listener.queued = False
        listener.ready(1)
        self.assertEqual(listener.accepted, 1)

    def test_a_flood_delays_nobody_elsewhere(self) -> None:
        """Between two parts of a flood the datagrams of other listeners have their turn."""
        port = self.upstream.getsockname()[1]
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:9/udp\ns: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp")
        flood, client = self.datagrams(), self.datagrams()
        for _ in range(20 * BATCH):
            flood.sendto(b"x", self.where())
        client.sendto(b"small", self.where("s"))
        with mock.patch.object(self.listener, "run", wraps=self.listener.run) as parts:
            self.assertEqual(self.receive(self.upstream)[0], b"small")
        self.assertLess(parts.call_count, 20, "the flood was not over yet")

    def test_a_flood_of_sources_delays_nobody_elsewhere(self) -> None:
        """Few new clients come in at a time, also where others go for them; then others have a turn."""
        before: list[int] = []
        for listen in ("127.0.0.1:0/udp", "0.0.0.0:0/udp"):
            port = self.upstream.getsockname()[1]
            self.forward(
                f"r: {listen} -> 127.0.0.1:9/udp max-assocs=10\ns: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp"
            )
            for _ in range(10 * NEW_AT_ONCE):
                self.datagrams().sendto(b"x", self.where())
            self.datagrams().sendto(b"small", self.where("s"))
            self.listener.run()
            self.assertEqual(self.listener.accepted, NEW_AT_ONCE)
            (other,) = self.forwarder.bound[1].listeners
            with mock.patch.object(other, "run", lambda: before.append(self.listener.accepted)):
                self.turn()
            self.assertLessEqual(before.pop(), 3 * NEW_AT_ONCE)
            self.assertEqual(self.listener.accepted, 10 * NEW_AT_ONCE)

    def test_many_that_wait_before_a_stop(self) -> None:
        """New clients whose datagrams wait are served before their listener goes."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        for _ in range(BATCH):
            self.datagrams().sendto(b"x", self.where())
        self.listener.take_waiting()
        self.assertEqual(self.listener.accepted, BATCH)

    def test_answers_that_do_not_fit(self) -> None:
        """An answer that the kernel does not take is dropped and counted."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        self.ask(client)
        (one,) = self.listener.table
        self.assertFalse(one.send(bytes(65_508)))
        self.assertEqual(self.listener.unsent, 1)

    def test_a_buffer_that_is_not_to_be_had(self) -> None:
        """The log says so where ``rcvbuf=`` asks for more than the system gives."""
        self.patch(datagram_listener, "enlarge_receive_buffer", lambda sock, wanted: wanted - 1)
        told: list[dict[str, Any]] = []
        from twisted.logger import globalLogPublisher

        globalLogPublisher.addObserver(told.append)
        self.addCleanup(globalLogPublisher.removeObserver, told.append)
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp rcvbuf=1MiB sndbuf=64KiB")
        self.assertTrue(any("rmem_max" in (event["log_format"] or "") for event in told))

    def test_eviction_without_a_session(self) -> None:
        """A correspondent that has no session yet just leaves."""
        left: list[DatagramClient] = []

        class Desk:
            """A listener that only hears who leaves."""

            def send(self, data: bytes, to: DatagramClient) -> bool:
                return True

            def left(self, who: DatagramClient, reason: CloseReason | None) -> None:
                left.append(who)

        one = DatagramClient(Desk(), "key", ("127.0.0.1", 1), (), None, None)
        one.evict()
        one.close()
        self.assertEqual(left, [one])


class ReloadTests(PostCase):
    """Other rules at run time."""

    def setUp(self) -> None:
        super().setUp()
        free = self.datagrams()
        self.free_port = free.getsockname()[1]
        free.close()

    def reload(self, text: str) -> None:
        """Forward as `text` says from now on."""
        ruleset = parse(text.replace("UP", str(self.upstream.getsockname()[1])) + "\n", "post.conf")
        result = self.result_of(self.forwarder.reload(ruleset))
        self.assertTrue(result.applied, str(result))

    def result_of(self, done: Deferred[ReloadResult]) -> ReloadResult:
        """What comes of a reload."""
        results: list[ReloadResult] = []
        done.addCallback(results.append)
        limit = time.monotonic() + TIMEOUT
        while not results and time.monotonic() < limit:
            self.reactor.iterate(0)
        return results[0]

    def test_associations_stay(self) -> None:
        """The socket and its associations stay as they are; new clients get the new rule."""
        other = self.datagrams()
        port = other.getsockname()[1]
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        one, two = self.datagrams(), self.datagrams()
        there = self.ask(one)
        listener = self.listener
        self.reload(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:{port}/udp rcvbuf=64KiB max-assocs=9")
        self.assertIs(self.listener, listener)
        self.assertEqual(self.ask(one), there)
        two.sendto(b"new", self.where())
        self.assertEqual(self.receive(other)[0], b"new")
        self.assertEqual(self.closed_lines, [])

    def test_unchanged(self) -> None:
        """A rule that says the same goes on as it is."""
        text = f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp"
        self.forward(text)
        live = self.forwarder.rules[0]
        self.reload(text + "\ns: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.assertIs(self.forwarder.rules[0], live)
        self.ask(self.datagrams())

    def test_removed(self) -> None:
        """Associations of a rule that is gone are answered until they are silent; then the port is free."""
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there, listener = self.ask(client), self.listener
        self.reload("s: 127.0.0.1:0 -> 127.0.0.1:1")
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")
        for _ in range(10):
            self.advance(LAST_SILENCE / 4)
        self.assertEqual((listener.state, self.closed_lines), ("stopping", []))
        self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
        self.advance(73)
        self.assertEqual(listener.state, "stopped")
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_IDLE])

    def ask_at(self, client: socket.socket, host: str) -> Any:
        """Send to the free port at `host`; see it come to the upstream, and say from where."""
        client.sendto(b"more", (host, self.free_port))
        got, sender = self.receive(self.upstream)
        self.assertEqual(got, b"more")
        return sender

    def other_upstream(self) -> tuple[socket.socket, int]:
        """Another upstream, and its port."""
        other = self.datagrams()
        return other, int(other.getsockname()[1])

    def test_added_again(self) -> None:
        """A rule that comes back has its socket again; its associations are where they were."""
        text = f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:"
        self.forward(text + "UP/udp")
        client, other = self.datagrams(), self.other_upstream()
        there, listener = self.ask(client), self.listener
        self.reload("s: 127.0.0.1:0 -> 127.0.0.1:1")
        self.reload(f"{text}{other[1]}/udp")
        self.assertIs(self.listener, listener)
        self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
        self.datagrams().sendto(b"new", ("127.0.0.1", self.free_port))
        self.assertEqual(self.receive(other[0])[0], b"new")
        self.advance(73)
        self.assertEqual((len(self.closed_lines), listener.state), (2, "accepting"))

    def test_refused_revival(self) -> None:
        """A reload that is refused leaves the socket to its associations, and lets it go with the last."""
        text = f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp"
        self.forward(text)
        client = self.datagrams()
        there, listener = self.ask(client), self.listener
        self.reload("s: 127.0.0.1:0 -> 127.0.0.1:1")
        port = self.upstream.getsockname()[1]
        taken = f"{text}\nt: 127.0.0.1:{port}/udp -> 127.0.0.1:9/udp\n".replace("UP", str(port))
        done = self.forwarder.reload(parse(taken, "post.conf"))
        for _ in range(20):
            self.turn()
        self.assertFalse(self.successResultOf(done).applied)
        self.assertEqual((self.ask_at(client, "127.0.0.1"), listener.state), (there, "stopping"))
        self.advance(73)
        self.assertEqual(listener.state, "stopped")

    def test_drained_and_resumed(self) -> None:
        """A rule that is drained while a client talks can be resumed."""
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        self.forwarder.drain("r")
        self.datagrams().sendto(b"nobody", ("127.0.0.1", self.free_port))
        self.assert_quiet(self.upstream)
        self.forwarder.resume("r")
        self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
        self.ask(self.datagrams())

    def test_dry_run(self) -> None:
        """A dry run binds nothing that would take datagrams from a socket in use."""
        self.forward(f"r: 0.0.0.0:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        port = self.upstream.getsockname()[1]
        moved = parse(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:{port}/udp\n", "post.conf")
        done = self.forwarder.reload(moved, dry_run=True)
        for number in range(20):
            client.sendto(b"%d" % number, ("127.0.0.1", self.free_port))
            self.turn(1)
        self.turn()
        self.assertEqual(self.successResultOf(done).failures, ())
        self.assertEqual(
            [self.receive(self.upstream) for _ in range(20)], [(b"%d" % n, there) for n in range(20)]
        )

    def test_paused(self) -> None:
        """A rule that is paused begins no association; those that are there go on, and the log says so."""
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        self.forwarder.pause("r")
        self.datagrams().sendto(b"waits", ("127.0.0.1", self.free_port))
        self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
        self.assert_quiet(self.upstream)
        self.forwarder.resume("r")
        self.assertEqual(self.receive(self.upstream)[0], b"waits")
        self.ask(self.datagrams())

    def test_paused_and_moved(self) -> None:
        """Clients that wait at an old socket which serves for a new one are served when that is resumed."""
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client, other = self.datagrams(), self.other_upstream()
        self.ask(client)
        self.reload(f"r: 0.0.0.0:{self.free_port}/udp -> 127.0.0.1:{other[1]}/udp")
        self.forwarder.pause("r")
        new = self.datagrams()
        new.sendto(b"waits", ("127.0.0.1", self.free_port))
        self.assert_quiet(other[0])
        self.forwarder.resume("r")
        got, sender = self.receive(other[0])
        self.assertEqual(got, b"waits")
        other[0].sendto(b"answer", sender)
        self.assertEqual(self.receive(new), (b"answer", ("127.0.0.1", self.free_port)))

    def refused(self, text: str, client: socket.socket, count: int) -> None:
        """A reload is refused at its very end, and meanwhile `client` goes on sending numbers."""
        ruleset = parse(text.replace("UP", str(self.upstream.getsockname()[1])) + "\n", "post.conf")
        numbers = iter(range(count))

        def take(_budget: object, _count: int) -> bool:
            for number in numbers:
                client.sendto(b"%d" % number, ("127.0.0.1", self.free_port))
            return False

        with mock.patch.object(DescriptorBudget, "take", take):
            result = self.result_of(self.forwarder.reload(ruleset))
        self.assertTrue(result.refused)
        self.assertIn("more listener is too many", str(result.failures))

    def test_refused(self) -> None:
        """What came to a socket that a refused reload had bound is handed to whom it was sent before."""
        for every in ("0.0.0.0", ""):
            self.forward(f"r: {every}:{self.free_port}/udp -> 127.0.0.1:UP/udp")
            client = self.datagrams()
            there = self.ask(client)
            count = BATCH + 10
            self.refused(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:9/udp", client, count)
            wanted = [(b"%d" % number, there) for number in range(count)]
            self.assertEqual([self.receive(self.upstream) for _ in range(count)], wanted)
            self.upstream.sendto(b"answer", there)
            self.assertEqual(self.receive(client), (b"answer", ("127.0.0.1", self.free_port)))
            new = self.datagrams()
            self.refused(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:9/udp", new, 1)
            self.assertEqual(self.receive(self.upstream)[0], b"0")
            self._stop(self.reactor, self.forwarder)

    def test_refused_with_two_that_are_alike(self) -> None:
        """Two sockets on every address share what comes; a refused reload gives the new one's part back."""
        self.forward(f"r: :{self.free_port}/udp -> 127.0.0.1:UP/udp")
        clients = [self.datagrams() for _ in range(20)]
        for client in clients:
            self.refused(f"r: 0.0.0.0:{self.free_port}/udp -> 127.0.0.1:9/udp", client, 1)
            self.assertEqual(self.receive(self.upstream)[0], b"0")

    def test_refused_while_an_old_rule_leaves(self) -> None:
        """An association of a rule that has gone gets its datagrams back, and new clients stay refused."""
        self.forward(f"r: 0.0.0.0:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there = self.ask(client)
        self.reload("s: 127.0.0.1:0 -> 127.0.0.1:1")
        self.refused(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:9/udp", client, 3)
        self.assertEqual(
            [self.receive(self.upstream) for _ in range(3)], [(b"%d" % n, there) for n in range(3)]
        )
        self.refused(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:9/udp", self.datagrams(), 1)
        self.assert_quiet(self.upstream)

    def test_moved_to_every_address(self) -> None:
        """New clients of the old address get the new rule while an old client talks there."""
        self.forward(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:UP/udp")
        client, other = self.datagrams(), self.other_upstream()
        there = self.ask(client)
        self.reload(f"r: 0.0.0.0:{self.free_port}/udp -> 127.0.0.1:{other[1]}/udp")
        self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
        new = self.datagrams()
        for host in ("127.0.0.1", "127.0.0.2"):
            new.sendto(b"new", (host, self.free_port))
            got, sender = self.receive(other[0])
            self.assertEqual(got, b"new")
            other[0].sendto(b"answer", sender)
            self.assertEqual(self.receive(new), (b"answer", (host, self.free_port)))
        self.assertEqual(self.closed_lines, [])

    def test_moved_to_one_address(self) -> None:
        """An old client whose datagrams come to the new socket has its association still, both ways."""
        for every in ("0.0.0.0", ""):
            self.closed_lines.clear()
            self.forward(f"r: {every}:{self.free_port}/udp -> 127.0.0.1:UP/udp")
            client, other = self.datagrams(), self.other_upstream()
            there = self.ask(client)
            self.reload(f"r: 127.0.0.1:{self.free_port}/udp -> 127.0.0.1:{other[1]}/udp")
            for _ in range(2):
                self.assertEqual(self.ask_at(client, "127.0.0.1"), there)
            self.upstream.sendto(b"answer", there)
            self.assertEqual(self.receive(client), (b"answer", ("127.0.0.1", self.free_port)))
            self.datagrams().sendto(b"new", ("127.0.0.1", self.free_port))
            self.assertEqual(self.receive(other[0])[0], b"new")
            self.advance(73)
            self.assertEqual((len(self.closed_lines), len(self.listener.table)), (2, 0))
            client.sendto(b"again", ("127.0.0.1", self.free_port))
            self.assertEqual(self.receive(other[0])[0], b"again")
            self._stop(self.reactor, self.forwarder)


class UnixTests(PostCase):
    """Unix sockets for datagrams."""

    def setUp(self) -> None:
        super().setUp()
        self.place = f"portfwd-{os.getpid()}-{id(self)}"

    def unix(self, name: str = "") -> socket.socket:
        """A socket with an abstract name, or with none."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.setblocking(False)
        if name:
            sock.bind(f"\0{self.place}-{name}")
        return sock

    def test_there_and_back(self) -> None:
        """Between unix sockets, with answers: the forwarder's own socket has a name that they can go to."""
        server, client = self.unix("up"), self.unix("client")
        self.forward(f"r: unix-dgram:@{self.place}-in -> unix-dgram:@{self.place}-up")
        client.sendto(b"question", f"\0{self.place}-in")
        question, sender = self.receive(server)
        server.sendto(b"", sender)
        self.assertEqual((question, self.receive(client)[0]), (b"question", b""))
        self.forwarder.cut(CloseReason.KILLED)
        (line,) = self.closed_lines
        self.assertEqual(str(line.client), f"unix:@{self.place}-client")
        self.assertEqual(str(line.local), f"unix:@{self.place}-in")
        self.assertEqual(str(line.upstream), f"unix:@{self.place}-up")

    def test_large(self) -> None:
        """200 000 bytes come through whole, both ways; what is longer than any is dropped and counted."""
        server, client = self.unix("up"), self.unix("client")
        for sock in (server, client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        self.forward(f"r: unix-dgram:@{self.place}-in -> unix-dgram:@{self.place}-up")
        client.sendto(bytes(200_000), f"\0{self.place}-in")
        data, sender = self.receive_large(server)
        self.assertEqual(len(data), 200_000)
        server.sendto(bytes(200_000), sender)
        self.assertEqual(len(self.receive_large(client)[0]), 200_000)
        try:
            client.sendto(bytes(LARGEST_UNIX + 1), f"\0{self.place}-in")
            server.sendto(bytes(LARGEST_UNIX + 1), sender)
        except OSError as problem:
            raise SkipTest(f"needs a larger net.core.wmem_max: {problem}") from problem
        client.sendto(b"behind", f"\0{self.place}-in")
        self.assertEqual(self.receive(server)[0], b"behind")
        server.sendto(b"behind", sender)
        self.assertEqual(self.receive(client)[0], b"behind")
        self.assertEqual(self.listener.too_long, 1)
        self.forwarder.cut(CloseReason.KILLED)
        self.assertEqual(self.closed_lines[-1].dropped, (("long", 1),))

    def receive_large(self, sock: socket.socket) -> tuple[bytes, Any]:
        """The next datagram, of any size."""
        self.turn()
        return sock.recvfrom(LARGEST_UNIX)

    def test_too_long_for_a_frame(self) -> None:
        """What has no length of two bytes is dropped and counted; everybody's association goes on."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.forward(f"r: unix-dgram:@{self.place}-in -> 127.0.0.1:{port} framing=length16")
            client = self.unix("client")
            for data in (bytes(70_000), b"no question"):
                client.sendto(data, f"\0{self.place}-in")
            self.turn()
            server.settimeout(TIMEOUT)
            # One connection is for questions.
            upstreams = [server.accept()[0] for _ in range(2)]
            self.turn()
            (own,), _, _ = select.select(upstreams, [], [], TIMEOUT)
            self.assertEqual(own.recv(100), b"\0\x0bno question")
            for one in upstreams:
                one.close()
        self.turn()
        self.assertEqual(self.closed_lines[-1].dropped, (("buffer", 1),))

    def test_too_long_an_answer_for_a_frame(self) -> None:
        """So is an answer to a client that speaks TCP."""
        server = self.unix("up")
        self.forward(f"r: 127.0.0.1:0 -> unix-dgram:@{self.place}-up framing=length16")
        with socket.create_connection(self.where(), TIMEOUT) as client:
            client.sendall(b"\0\1?")
            _, sender = self.receive(server)
            server.sendto(bytes(70_000), sender)
            server.sendto(b"answer", sender)
            self.turn()
            self.assertEqual(client.recv(100), b"\0\6answer")
        self.turn()
        self.advance(10)
        self.assertEqual(self.closed_lines[-1].dropped, (("long", 1),))

    def test_syslog(self) -> None:
        """Programs that log have no name: what they send goes to UDP, and nothing can be answered."""
        self.forward(f"r: unix-dgram:@{self.place}-log -> 127.0.0.1:UP/udp")
        for text in (b"<13>one", b"<13>two"):
            self.unix().sendto(text, f"\0{self.place}-log")
            got, there = self.receive(self.upstream)
            self.assertEqual(got, text)
        self.upstream.sendto(b"answer", there)
        self.turn()
        self.assertEqual(len(self.listener.table), 1)

    def test_file(self) -> None:
        """The socket's file has its bits from the beginning, replaces one left over, and goes at the end."""
        path = str(short_directory(self) / "s")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
            left.bind(path)
        self.forward(f"r: unix-dgram:{path} mode=0640 -> 127.0.0.1:UP/udp")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)
        self.unix().sendto(b"x", path)
        self.assertEqual(self.receive(self.upstream)[0], b"x")
        self.forwarder.cut(CloseReason.KILLED)
        self.listener.stop()
        self.assertFalse(os.path.exists(path))

    def test_in_use(self) -> None:
        """The file of a socket that somebody reads stays his."""
        path = str(short_directory(self) / "s")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            refusal = self.assertRaises(StartError, self.forward, f"r: unix-dgram:{path} -> 127.0.0.1:UP/udp")
            self.assertIn("in use", str(refusal))

    def test_upstream_closes(self) -> None:
        """An upstream that is gone ends the association at the next datagram."""
        server, client = self.unix("up"), self.unix("client")
        self.forward(f"r: unix-dgram:@{self.place}-in -> unix-dgram:@{self.place}-up")
        client.sendto(b"x", f"\0{self.place}-in")
        self.receive(server)
        server.close()
        client.sendto(b"x", f"\0{self.place}-in")
        self.turn()
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET])
