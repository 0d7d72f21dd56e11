"""Tests of `portfwd.relay.question_pool`: clients of a rule from UDP to TCP, and their server."""

from __future__ import annotations

import socket
import time
from unittest import mock

from portfwd.relay import question_pool
from portfwd.relay.question_pool import BUSY, IDLE, LIFE, MOST_CONNECTIONS, PIPELINE, STALLED
from portfwd.streams.datagrams.carrier import MOST_KEPT
from portfwd.values import CloseReason
from portfwd.wire.dns import with_id
from portfwd.wire.framing import Unframer, frame
from tests.listen.post import TIMEOUT, PostCase
from tests.wire.test_dns import QUESTION, answer_of, with_edns


class Asked:
    """A connection, as the server has it; :ivar got: messages that came."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got: list[bytes] = []
        self.ended = False
        self._unframer = Unframer()

    def read(self) -> None:
        """Read what there is."""
        while not self.ended:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            self.ended = not data
            self.got += self._unframer.feed(data)

    def answer(self, *messages: bytes) -> None:
        """Send."""
        self.sock.sendall(b"".join(map(frame, messages)))


class PoolCase(PostCase):
    """A server for messages over TCP."""

    def setUp(self) -> None:
        super().setUp()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.server.setblocking(False)
        self.connections: list[Asked] = []

    def serve(self, options: str = "") -> None:
        """Forward to the server."""
        port = self.server.getsockname()[1]
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:{port} framing=length16 {options}")

    def look(self) -> None:
        """Take what has come to the server."""
        self.turn()
        while True:
            try:
                sock, _ = self.server.accept()
            except BlockingIOError:
                break
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.addCleanup(sock.close)
            self.connections.append(Asked(sock))
        for one in self.connections:
            one.read()

    def wait_for(self, count: int) -> list[bytes]:
        """The messages that came to all connections, as soon as they are so many."""
        limit = time.monotonic() + TIMEOUT
        while time.monotonic() < limit:
            self.look()
            got = [message for one in self.connections for message in one.got]
            if len(got) >= count:
                return got
        raise AssertionError(f"not {count} messages: {self.connections}")

    def clients(self, count: int, start: int = 0) -> list[socket.socket]:
        """Clients, each with a question sent; all with the same number, and names of their own."""
        made = []
        for number in range(start, start + count):
            client = self.datagrams()
            client.sendto(self.question(number), self.where())
            made.append(client)
            self.turn(3)
        return made

    def question(self, number: int, id_: int = 7) -> bytes:
        """A client's."""
        return with_id(QUESTION, id_) + b"%04d" % number


class SharedTests(PoolCase):
    """Questions of many clients on a few connections."""

    def test_one_connection(self) -> None:
        """Clients one after the other share one; each gets its answer with its own number, in any order."""
        self.serve()
        clients = self.clients(BUSY)
        got = self.wait_for(BUSY)
        self.assertEqual(len(self.connections), 1)
        self.assertEqual(len({message[:2] for message in got}), BUSY)
        self.connections[0].answer(*reversed(got))
        for number, client in enumerate(clients):
            self.assertEqual(self.receive(client)[0], self.question(number))
        self.assert_quiet(*clients)

    def test_long_answers(self) -> None:
        """An answer that its client cannot take in a datagram is truncated, so that it asks over TCP."""
        self.serve()
        client = self.datagrams()
        for place, (question, size, whole) in enumerate(
            (
                (QUESTION, 512, True),
                (QUESTION, 513, False),
                (with_edns(QUESTION, 1232), 1232, True),
                (with_edns(QUESTION, 1232), 1233, False),
            )
        ):
            client.sendto(question, self.where())
            asked = self.wait_for(place + 1)[-1]
            self.connections[0].answer(with_id(answer_of(size), int.from_bytes(asked[:2], "big")))
            got = self.receive(client)[0]
            self.assertEqual(got[:2], QUESTION[:2])
            self.assertEqual((got == answer_of(size), bool(got[2] & 2)), (whole, not whole))

    def test_a_few_connections(self) -> None:
        """With many unanswered questions there are some more, and no more than that; the rest waits."""
        self.serve()
        count = PIPELINE * MOST_CONNECTIONS + 5
        client = self.datagrams()
        others = [self.datagrams(f"127.0.0.{number}") for number in range(2, 250)]
        senders = [client] * (count - len(others)) + others
        for number, sender in enumerate(senders):
            sender.sendto(self.question(number, number), self.where())
            if number % 8 == 0:
                self.look()
        got = self.wait_for(count - 5)
        self.assertEqual(len(self.connections), MOST_CONNECTIONS)
        self.assertEqual({len(one.got) for one in self.connections}, {PIPELINE})
        for one in self.connections:
            one.answer(*one.got)
        got = self.wait_for(count)
        self.assertEqual({message[-4:] for message in got}, {b"%04d" % number for number in range(count)})

    def test_one_client_leaves_places(self) -> None:
        """A client with many questions that are not answered does not delay another one's."""
        self.serve()
        client = self.datagrams()
        for number in range(2 * PIPELINE * MOST_CONNECTIONS):
            client.sendto(self.question(number, number), self.where())
            if number % 8 == 0:
                self.look()
        share = PIPELINE * MOST_CONNECTIONS // 2
        self.assertEqual(len(self.wait_for(share)), share)
        other = self.datagrams("127.0.0.2")
        other.sendto(self.question(9999), self.where())
        self.assertIn(b"9999", [message[-4:] for message in self.wait_for(share + 1)])

    def test_descriptors(self) -> None:
        """Connections are counted, each once, and associations that share them are not."""
        self.serve()
        budget = self.forwarder.budget
        before = budget.spent
        clients = self.clients(BUSY + 1)
        got = self.wait_for(BUSY + 1)
        self.assertEqual(budget.spent - before, 2)
        clients[0].sendto(b"no question", self.where())
        self.wait_for(BUSY + 2)
        self.assertEqual(budget.spent - before, 3)
        for one in self.connections:
            one.answer(*(message for message in one.got if message in got))
        for _ in range(int(IDLE) + 2):
            self.advance(1)
        for one in self.connections:
            one.sock.close()
        self.turn()
        self.assertEqual(len(self.listener.table), BUSY)
        self.assertEqual(budget.spent, before)

    def test_no_descriptor(self) -> None:
        """Where there is none for a connection, the association ends, and nothing is counted."""
        self.serve()
        budget = self.forwarder.budget
        before = budget.limit = budget.spent
        self.clients(1)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.RESOURCES])
        self.assertEqual(budget.spent, before)

    def test_no_descriptor_for_another(self) -> None:
        """Where there is none for one more connection, those that are there take all questions."""
        self.serve()
        self.clients(1)
        self.wait_for(1)
        budget = self.forwarder.budget
        budget.limit = budget.spent
        self.clients(BUSY + 5, start=1)
        self.wait_for(BUSY + 6)
        self.assertEqual((len(self.connections), self.closed_lines), (1, []))

    def test_idle(self) -> None:
        """It ends when nothing is unanswered for a few seconds; the association stays."""
        self.serve()
        (client,) = self.clients(1)
        (message,) = self.wait_for(1)
        self.connections[0].answer(message)
        self.receive(client)
        for _ in range(int(IDLE) + 2):
            self.advance(1)
        self.look()
        self.assertTrue(self.connections[0].ended)
        self.assertEqual(self.closed_lines, [])
        client.sendto(self.question(2), self.where())
        self.assertEqual(self.wait_for(2)[1][2:], self.question(2)[2:])

    def test_closed_after_each_answer(self) -> None:
        """A server that closes after an answer gets every question, and every client an answer."""
        self.serve()
        clients = self.clients(20)
        limit = time.monotonic() + TIMEOUT
        answers: dict[int, bytes] = {}
        while len(answers) < 20 and time.monotonic() < limit:
            self.look()
            for one in self.connections:
                if one.got and not one.ended:
                    one.answer(one.got[0])
                    one.sock.close()
                    one.ended = True
            self.turn(3)
            for number, client in enumerate(clients):
                try:
                    answers[number] = client.recv(1000)
                except BlockingIOError:
                    continue
        self.assertEqual(answers, {number: self.question(number) for number in range(20)})

    def test_asked_once_more(self) -> None:
        """A connection that ends without an answer: its questions are asked once more, and then given up."""
        self.serve()
        (client,) = self.clients(1)
        for count in (1, 2):
            got = self.wait_for(count)
            self.connections[-1].sock.close()
            self.connections[-1].ended = True
        self.assertEqual({message[2:] for message in got}, {self.question(0)[2:]})
        self.look()
        self.assertEqual(len(self.connections), 2)
        self.assert_quiet(client)
        self.advance(73)
        self.assertEqual([line.dropped for line in self.closed_lines], [(("unanswered", 1),)])

    def test_half_closed(self) -> None:
        """A server that only ends its side is left, and asked again."""
        self.serve()
        (client,) = self.clients(1)
        self.wait_for(1)
        self.connections[0].sock.shutdown(socket.SHUT_WR)
        self.wait_for(2)
        self.connections[1].answer(self.connections[1].got[0])
        self.assertEqual(self.receive(client)[0], self.question(0))

    def test_stalled(self) -> None:
        """A connection on which nothing comes is given up, and its questions are asked on another one."""
        self.serve()
        (client,) = self.clients(1)
        self.wait_for(1)
        for _ in range(int(STALLED) + 1):
            self.advance(1)
        self.wait_for(2)
        self.assertTrue(self.connections[0].ended)
        self.connections[1].answer(self.connections[1].got[0])
        self.assertEqual(self.receive(client)[0], self.question(0))

    def test_late_answers(self) -> None:
        """An answer that comes when its question is forgotten, or to no question, goes nowhere."""
        self.serve()
        client, other = self.clients(2)
        first, second = self.wait_for(2)
        self.connections[0].answer(b"", b"short", with_id(first, 4711))
        for _ in range(int(LIFE) + 1):
            self.connections[0].answer(b"alive")
            self.turn()
            self.advance(1)
        self.connections[0].answer(first, second)
        self.assert_quiet(client, other)

    def test_refused(self) -> None:
        """Where no target can be reached, the associations that wait say why."""
        self.serve()
        self.server.close()
        self.datagrams().sendto(QUESTION, self.where())
        self.turn()
        (line,) = self.closed_lines
        self.assertEqual(line.reason, CloseReason.CONNECT_REFUSED)

    def test_refused_later(self) -> None:
        """So do those whose question needs a connection again."""
        self.serve()
        (client,) = self.clients(1)
        (message,) = self.wait_for(1)
        self.connections[0].answer(message)
        self.receive(client)
        self.server.close()
        self.connections[0].sock.close()
        self.turn()
        client.sendto(QUESTION, self.where())
        self.turn()
        (line,) = self.closed_lines
        self.assertEqual(line.reason, CloseReason.UPSTREAM_RESET)
        self.assertIn("refused", line.detail)

    def test_bounds(self) -> None:
        """Beyond so many questions, or bytes of them, new ones are dropped."""
        for bound in ("MOST_QUESTIONS", "MOST_BYTES"):
            with mock.patch.object(question_pool, bound, 1):
                self.serve()
                client = self.datagrams()
                client.sendto(QUESTION, self.where())
                client.sendto(QUESTION, self.where())
                self.turn()
                self.advance(73)
            self.assertEqual(self.closed_lines[-1].dropped[0][0], "buffer")

    def test_max_conns_per_target(self) -> None:
        """Associations are counted for a target, connections are not."""
        self.serve("max-conns-per-target=2")
        self.clients(3)
        self.wait_for(2)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.LIMIT])
        self.advance(73)
        self.clients(1)
        self.wait_for(3)

    def test_reprs(self) -> None:
        """Each says what it has."""
        self.serve()
        self.clients(1)
        self.wait_for(1)
        live = self.forwarder.bound[0].live
        self.assertEqual(
            repr(question_pool.QuestionPool(live.clock, mock.Mock())),
            "<QuestionPool 0 connections, 0 questions>",
        )
        (session,) = live.sessions.values()
        self.assertIn("open", repr(session.streams[1].carrier))


class OwnTests(PoolCase):
    """Messages that are no questions."""

    def test_unchanged(self) -> None:
        """They have a connection of their own for their association, and pass unchanged both ways."""
        self.serve()
        client, asker = self.datagrams(), self.datagrams()
        messages = [b"", b"\x38hard reset", bytes(40_000)]
        for message in messages:
            client.sendto(message, self.where())
        asker.sendto(QUESTION, self.where())
        got = self.wait_for(4)
        (own,) = (one for one in self.connections if len(one.got) == 3)
        self.assertEqual(own.got, messages)
        self.assertEqual(len(got), 4)
        own.answer(*messages)
        self.assertEqual([self.receive(client)[0] for _ in messages], messages)

    def test_over(self) -> None:
        """When the server closes that one, its association ends; when the association ends, it is closed."""
        self.serve("idle=5s")
        client, other = self.datagrams(), self.datagrams()
        for one in (client, other):
            one.sendto(b"no question", self.where())
        self.wait_for(2)
        owns = [one for one in self.connections if one.got]
        owns[0].sock.close()
        owns[0].ended = True
        self.turn()
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET])
        for _ in range(8):
            self.advance(1)
        self.look()
        self.assertTrue(owns[1].ended)
        self.assertEqual(len(self.closed_lines), 2)

    def test_early(self) -> None:
        """A few are kept while that one is dialled; too many are dropped."""
        self.serve()
        client = self.datagrams()
        self.clients(1)
        self.wait_for(1)
        for _ in range(MOST_KEPT + 5):
            client.sendto(b"no question", self.where())
        self.wait_for(MOST_KEPT + 1)
        self.assert_quiet(client)
