"""
Tests for scripted peers: straight from client to server, with no forwarder between.

A direct connection is the relay that cannot be wrong, so what fails here is the peers' fault.
"""

from __future__ import annotations

import os
import threading
import time

from twisted.trial import unittest

from portfwd.testing import script
from portfwd.testing.data import Literal
from portfwd.testing.peers import (
    ConversationFailed,
    Dialer,
    Incoming,
    Marks,
    Peer,
    ScriptedListener,
    StepFailed,
    address_of,
    converse,
)
from portfwd.values import Address, InetAddress, UnixAddress
from tests.places import short_directory

LOOPBACK = InetAddress("127.0.0.1", 0)


class Talk(unittest.SynchronousTestCase):
    """What the cases below share: a listener, and a conversation over it."""

    def listener(self, address: Address = LOOPBACK, **options: int | None) -> ScriptedListener:
        """A listener that is closed after the test."""
        listener = ScriptedListener(address, **options)
        self.addCleanup(listener.close)
        return listener

    def talk(self, client: list[str], server: list[str], **options: int | None) -> tuple[Peer, Peer]:
        """Play both scripts over a connection on loopback."""
        listener = self.listener()
        peers = Dialer(listener.address, *client, **options), listener.peer(*server)
        converse(*peers, step_deadline=5)
        return peers

    def refuse(self, client: list[str], server: list[str], deadline: float = 5) -> str:
        """Play scripts that cannot come out; the report."""
        listener = self.listener()
        dialer, peer = Dialer(listener.address, *client), listener.peer(*server)
        return str(self.assertRaises(ConversationFailed, converse, dialer, peer, step_deadline=deadline))


class GoodTests(Talk):
    """Conversations that come out."""

    def test_question_and_answer(self) -> None:
        """Literal bytes and streams, both ways, with an end on each side."""
        client, server = self.talk(
            ['send "hello "', "send 1MiB", "end", 'expect "bye"', "expect end"],
            ['expect "hello "', "expect 1MiB", "expect end", 'send "bye"', "end"],
        )
        self.assertEqual(client.sent.sha256, server.received.sha256)
        self.assertEqual((server.received.count, client.received.count), (6 + 1048576, 3))
        self.assertIs(client.incoming, Incoming.END)
        self.assertEqual((client.local, client.remote), (server.remote, server.local))

    def test_both_at_once(self) -> None:
        """A peer that sends reads at the same time, so two floods do not block each other."""
        steps = ["send 16MiB in writes of 1-200000", "end", "read to end"]
        client, server = self.talk(steps, steps)
        self.assertEqual(client.sent.sha256, server.received.sha256)
        self.assertEqual(server.sent.sha256, client.received.sha256)

    def test_reset(self) -> None:
        """A reset is told from an end."""
        _, server = self.talk(["send 10", "hear got", "reset"], ["expect 10", "say got", "expect reset"])
        self.assertIs(server.incoming, Incoming.RESET)

    def test_bytes_before_a_reset(self) -> None:
        """What came before the reset is checked and counted."""
        _, server = self.talk(["send 10000", "hear got", "reset"], ["expect 1", "say got", "read to reset"])
        self.assertEqual(server.received.count, 10000)

    def test_reset_after_an_end(self) -> None:
        """A peer that has read the end still notices the reset that follows."""
        _, server = self.talk(["end", "hear got", "reset"], ["expect end", "say got", "expect reset"])
        self.assertIs(server.incoming, Incoming.END)

    def test_reset_of_a_peer_that_does_not_read(self) -> None:
        """It is seen without reading a byte."""
        _, server = self.talk(
            ["send 1000", "hear stopped", "reset"], ["stop reading", "say stopped", "expect reset"]
        )
        self.assertEqual(server.received.count, 0)

    def test_stopped_reader(self) -> None:
        """``fill`` finds the buffers' end; nothing is lost when the reader goes on."""
        client, server = self.talk(
            ["fill", "say full", "end"], ["stop reading", "hear full", "resume reading", "read to end"]
        )
        self.assertGreater(client.sent.count, 4096)
        self.assertEqual(client.sent.count, server.received.count)

    def test_send_up_to(self) -> None:
        """The total counts what was sent before, ``fill`` included."""
        client, _ = self.talk(
            ["fill", "say full", "send up to 64MiB", "end"],
            ["stop reading", "hear full", "resume reading", "read to end"],
            send_buffer=65536,
        )
        self.assertEqual(client.sent.count, 64 * 1024**2)

    def test_drip(self) -> None:
        """Single bytes, some time apart."""
        before = time.monotonic()
        client, _ = self.talk(["drip 3 every 50ms", "end"], ["read to end"])
        self.assertEqual(client.sent.count, 3)
        self.assertGreaterEqual(time.monotonic() - before, 0.15)

    def test_nothing(self) -> None:
        """Silence can be asserted, before and after an end."""
        self.talk(
            ["expect nothing for 100ms", "say go", "expect end", "expect nothing for 100ms", "end"],
            ["hear go", "end", "read to end"],
        )

    def test_offer_may_be_refused(self) -> None:
        """``offer`` is content with what the other side took."""
        client, _ = self.talk(["offer 256MiB", "read to close"], ["expect 1000", "close"])
        self.assertLess(client.sent.count, 256 * 1024**2)

    def test_offer_may_be_taken(self) -> None:
        """If all of it goes, that is as well."""
        client, _ = self.talk(["offer 1MiB", "end"], ["read to end"])
        self.assertEqual(client.sent.count, 1048576)

    def test_close_says_either(self) -> None:
        """A closed socket with unread input resets, which ``read to close`` takes."""
        self.talk(["stop reading", "hear sent", "close"], ["send 10", "say sent", "read to close"])

    def test_every_family(self) -> None:
        """IPv6 and unix sockets, by path and abstract, work alike."""
        path = os.path.relpath(short_directory(self) / "s")
        names: list[Address] = [
            InetAddress("::1", 0),
            UnixAddress(path),
            UnixAddress(f"@portfwd-test-peers-{os.getpid()}"),
        ]
        for name in names:
            with ScriptedListener(name) as listener:
                self.assertEqual(str(name)[:6], str(listener.address)[:6])
                client = Dialer(listener.address, "send 100KiB", "end", "expect 3", "expect end")
                server = listener.peer("expect 100KiB", "expect end", "send 3", "end")
                converse(client, server)
        self.assertFalse(os.path.exists(path))

    def test_source_address(self) -> None:
        """A dialer can connect from another address of its host."""
        listener = self.listener()
        client = Dialer(listener.address, "end", source=InetAddress("127.0.0.2", 0))
        server = listener.peer("expect end")
        converse(client, server)
        self.assertIsInstance(server.remote, InetAddress)
        self.assertIn("127.0.0.2:", str(server.remote))

    def test_refused_until_it_listens(self) -> None:
        """A listener without a backlog refuses; after `listen` it accepts."""
        listener = self.listener(backlog=None)
        error = self.assertRaises(ConversationFailed, converse, Dialer(listener.address, "end"))
        self.assertIn("refused", str(error))
        listener.listen()
        converse(Dialer(listener.address, "end"), listener.peer("expect end"))

    def test_a_late_accept_after_a_full_queue(self) -> None:
        """A listener whose queue is full answers nobody, until a peer accepts what filled it."""
        listener = self.listener(backlog=0)
        fillers = listener.fill_queue()
        for filler in fillers:
            self.addCleanup(filler.close)
        self.assertGreaterEqual(len(fillers), 1)
        client = Dialer(listener.address, "send 10", "end", "expect end")
        ticker = Dialer(self.listener().address, "say now")
        server = listener.peer("expect 10", "expect end", "end", after="now", skip=len(fillers))
        converse(client, server, ticker)

    def test_a_late_accept_that_never_comes(self) -> None:
        """Without the word, it fails in time."""
        peer = self.listener().peer(after="never")
        report = str(self.assertRaises(ConversationFailed, converse, peer, step_deadline=0.1))
        self.assertIn("nobody said never", report)

    def test_a_single_peer_keeps_what_it_gets(self) -> None:
        """Against a program that is no peer, texts can be expected."""
        listener = self.listener()

        def serve() -> None:
            connection = listener.accept(5)
            if connection is not None:
                with connection:
                    connection.sendall(b"ready\n")

        program = threading.Thread(target=serve)
        program.start()
        self.addCleanup(program.join)
        client = Dialer(listener.address, 'expect "ready\\n"', "expect end")
        converse(client)
        self.assertEqual(client.received.slice(0, 10), b"ready\n")

    def test_own_idea_of_what_comes(self) -> None:
        """A filter that changes bytes is tested with a source of one's own."""
        listener = self.listener()
        client = Dialer(listener.address, "expect 5", "expect end", receives=Literal(b"HELLO"))
        converse(client, listener.peer('send "HELLO"', "end"))

    def test_repr(self) -> None:
        """One line says how far a peer came."""
        client, _ = self.talk(["send 5", "end"], ["read to end", "close"])
        self.assertEqual(repr(client), "<Dialer 'client' sent 5, received 0, incoming still open>")
        self.assertEqual(repr(self.listener())[:28], "<ScriptedListener 127.0.0.1:")


class BadTests(Talk):
    """Conversations that do not come out: the report says which step, and what happened instead."""

    def test_wrong_text(self) -> None:
        """The bytes that came are shown."""
        self.assertIn("got b'nay'", self.refuse(['expect "yes"'], ['send "nay"', "read to close"]))

    def test_too_little(self) -> None:
        """An end in the middle of what was expected."""
        report = self.refuse(["send 5", "end", "read to close"], ["expect 10"])
        self.assertIn("! expect 10", report)
        self.assertIn("end after 5 of 10 bytes", report)

    def test_too_late(self) -> None:
        """Bytes that do not come in time."""
        self.assertIn("only 0 of 1 byte came", self.refuse(["read to close"], ["expect 1 within 100ms"]))

    def test_unexpected_bytes(self) -> None:
        """``expect end`` and ``expect nothing`` allow no byte."""
        self.assertIn("1 byte came first", self.refuse(["send 1", "end"], ["expect end"]))
        self.assertIn("1 byte came", self.refuse(["send 1", "read to close"], ["expect nothing for 5s"]))

    def test_unexpected_end(self) -> None:
        """``expect nothing`` allows no end, and a reset is no end."""
        self.assertIn("end came", self.refuse(["end", "read to close"], ["expect nothing for 5s"]))
        report = self.refuse(["hear here", "reset"], ["say here", "expect end"])
        self.assertIn("reset came instead, after 0 bytes", report)

    def test_end_is_no_reset(self) -> None:
        """Waiting for a reset, an end is not enough."""
        report = self.refuse(["end", "read to close"], ["read to reset within 200ms"])
        self.assertIn("incoming is end", report)

    def test_no_room(self) -> None:
        """A write that nobody takes runs into the deadline."""
        report = self.refuse(["send 1GiB within 500ms"], ["stop reading", "hear never"])
        self.assertIn("not taken in time", report)

    def test_endless_room(self) -> None:
        """``fill`` against a reader does not go on for ever."""
        report = self.refuse(["fill within 400ms"], ["read to close"])
        self.assertIn("still takes more", report)

    def test_refused_write(self) -> None:
        """``send``, unlike ``offer``, insists."""
        report = self.refuse(["send 256MiB"], ["expect 1", "close"])
        self.assertIn("the connection does not take more", report)

    def test_nobody_speaks(self) -> None:
        """A mark nobody says, heard by a reading peer and by one that does not read."""
        self.assertIn("nobody said so", self.refuse(["hear x within 200ms"], ["read to close"]))
        self.assertIn(
            "nobody said so", self.refuse(["stop reading", "hear x within 100ms"], ["read to close"])
        )

    def test_nobody_connects(self) -> None:
        """A listener's peer does not wait for ever."""
        report = str(
            self.assertRaises(ConversationFailed, converse, self.listener().peer(), step_deadline=0.2)
        )
        self.assertIn("connecting: nobody connected in time", report)

    def test_others_are_not_blamed(self) -> None:
        """When one fails, those that wait for it stop without a complaint of their own, and soon."""
        before = time.monotonic()
        report = self.refuse(["expect 1 within 100ms"], ["stop reading", "hear never"], deadline=30)
        self.assertEqual(report.count("came in time"), 1)
        self.assertNotIn("nobody said", report)
        self.assertLess(time.monotonic() - before, 10)

    def test_a_dead_peer_leaves_the_accepting_one(self) -> None:
        """The same before a connection was accepted."""
        listener = self.listener()
        dead = Dialer(self.listener(backlog=None).address)
        error = self.assertRaises(ConversationFailed, converse, dead, listener.peer(), step_deadline=30)
        self.assertNotIn("nobody connected", str(error))

    def test_after_close(self) -> None:
        """A script that goes on after ``close`` is told so."""
        self.assertIn("has closed its socket", self.refuse(["close", "send 1"], ["read to close"]))

    def test_unknown_step(self) -> None:
        """A step value of another kind is refused."""
        listener = self.listener()

        class Dance(script.Step):
            def _text(self) -> str:
                return "dance"

        error = self.assertRaises(
            ConversationFailed, converse, Dialer(listener.address, Dance()), listener.peer()
        )
        self.assertIn("do not know the step", str(error))


class PartsTests(Talk):
    """What the peers are made of."""

    def test_a_peer_of_no_kind_cannot_connect(self) -> None:
        """`Peer` alone does not know how."""
        peer = Peer([], name="nobody", seed=1)
        peer.run(Marks(), 1)
        self.assertIsInstance(peer.failure, NotImplementedError)

    def test_addresses(self) -> None:
        """What the kernel says becomes our values."""
        self.assertEqual(address_of(("::1", 5, 0, 0)), InetAddress("::1", 5))
        self.assertEqual(address_of(b"\0name"), UnixAddress("@name"))
        self.assertEqual(address_of("/a/b"), UnixAddress("/a/b"))
        self.assertIsNone(address_of(""))
        self.assertIsNone(address_of(b""))

    def test_an_address_that_cannot_be_bound(self) -> None:
        """The error is the caller's, and no descriptor stays."""
        taken = self.listener()
        before = len(os.listdir("/proc/self/fd"))
        self.assertRaises(OSError, ScriptedListener, taken.address)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_unix_name_that_is_gone(self) -> None:
        """Closing a listener whose file somebody removed is no error."""
        path = str(short_directory(self) / "s")
        listener = ScriptedListener(UnixAddress(path))
        os.unlink(path)
        listener.close()

    def test_step_errors_are_assertions(self) -> None:
        """Test runners report them as failures, not as errors."""
        self.assertTrue(issubclass(StepFailed, AssertionError))
        self.assertTrue(issubclass(ConversationFailed, AssertionError))
