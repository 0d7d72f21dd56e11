"""Tests of the limits of checks: endless answers of valid messages."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.checks.api import (
    MAX_ANSWER,
    WAIT,
    Check,
    CheckCarrier,
    CheckConversation,
    CheckReply,
)
from portfwd.upstreams.checks.bounded import BoundedConversation
from portfwd.upstreams.checks.mysql import packet
from portfwd.upstreams.checks.pgsql import message
from portfwd.upstreams.checks.registry import BUILT_IN
from tests.upstreams.checks.talking import SUBJECT, check

#: Maximum calls of functions in one check, for all messages, and more for each piece that is received.
CALLS, CALLS_EACH = 4000, 40

GREETING = packet(0, b"\x0a8.0.36\0" + bytes(60))
SCRAM = message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")
CHALLENGE = b"\0\0\0\x0b" + f"r={SUBJECT.token}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=20000".encode()
PRIMARY = {"role": "primary", "password_file": "/secret"}

#: The checks that read, each with options, a beginning, and what a hostile target repeats after it.
ENDLESS: tuple[tuple[str, dict[str, str], bytes, bytes], ...] = (
    ("agent", {}, b"", b"up "),
    ("dns", {"name": "."}, b"", b"\xff\xff\x81\x80\0\1\0\0\0\0\0\0"),
    ("expect x", {}, b"", b"220-\r\n"),
    ("http", {"expect": "x"}, b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    ("http", {}, b"", b"HTTP"),
    ("mysql", {"user": "a"}, GREETING, packet(2, b"\x01")),
    ("mysql", {"user": "a"}, GREETING, packet(2, b"\xfecaching_sha2_password\0")),
    ("mysql", {"user": "a"}, GREETING, packet(2, b"\xfe" + bytes(60_000))),
    ("mysql", {}, b"", b"\xff\xff\x00"),
    ("pgsql", PRIMARY, b"", message(b"N", b"a\0b\0")),
    ("pgsql", PRIMARY, b"", message(b"S", b"in_hot_standby\0")),
    ("pgsql", PRIMARY, b"", message(b"D", bytes(60_000))),
    ("pgsql", PRIMARY, b"", message(b"R", b"\0\0\0\5salt")),
    ("pgsql", PRIMARY, SCRAM, message(b"R", CHALLENGE)),
    ("pgsql", {"role": "primary"}, b"", message(b"1", b"")),
    ("redis", {}, b"", b"+"),
    ("redis", {"password_file": "/secret"}, b"", b"+OK"),
    ("redis", {"role": "slave"}, b"*5\r\n$5\r\nslave\r\n", b"\r"),
    ("send x expect y", {}, b"", b"z\r\n"),
)


class WaitingConversation(CheckConversation):
    """Waits."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def opened(self) -> CheckReply:
        """Wait."""
        return WAIT

    def received(self, data: bytes) -> CheckReply:
        """Keep it."""
        self.kept.append(data)
        return WAIT

    def exceeded(self, limit: int) -> CheckReply:
        """Go on, which a plug-in cannot."""
        return WAIT


class Limited(Check):
    """Accepts ten bytes."""

    max_answer = 10


class LimitedDatagrams(Limited):
    """Accepts ten bytes in datagrams."""

    carrier = CheckCarrier.DATAGRAM


class Calls:
    """Counts the calls of functions, also of built-in ones, in its context."""

    def __enter__(self) -> Calls:
        self.count = 0
        self._before = sys.getprofile()
        sys.setprofile(self._called)
        return self

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        self.count += event in ("call", "c_call")

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(self._before)


class EndlessTests(SynchronousTestCase):
    """Targets that send valid messages without end."""

    def feed(self, made: Check, start: bytes, endless: bytes, piece: int) -> tuple[CheckReply, int, int]:
        """The last reply, the number of bytes that were accepted, and of calls per received piece."""
        conversation = BoundedConversation(made, made.begin(SUBJECT))
        reply = conversation.opened()
        if start:
            reply = conversation.received(start)
        data = (endless * (piece // len(endless) + 1))[:piece] if piece else endless
        accepted = pieces = 0
        with Calls() as calls:
            while reply.verdict is None and not reply.silent and accepted <= 3 * MAX_ANSWER:
                accepted += len(data)
                pieces += 1
                reply = conversation.received(data)
        return reply, accepted, calls.count - CALLS_EACH * pieces

    def test_all_built_in(self) -> None:
        """Every check that reads fails after a bounded number of bytes and of parsed messages."""
        silent = {"exec", "tcp", "tls"}
        self.assertEqual({one.split()[0] for one, *_ in ENDLESS} | silent, set(BUILT_IN))
        for name, options, start, endless in ENDLESS:
            for whole in (False, True):
                size = 0 if name.startswith("dns") else MAX_ANSWER if whole else len(endless) * 20
                reply, accepted, calls = self.feed(check(name, **options), start, endless, size)
                where = (name, options, start[:10], endless[:20], size)
                self.assertTrue(reply.silent or (reply.verdict and not reply.verdict.passed), where)
                self.assertLessEqual(accepted, MAX_ANSWER + max(size, len(endless)), where)
                self.assertLess(calls, CALLS, where)

    def test_scram_once(self) -> None:
        """A server makes portfwd compute one SCRAM proof for each check."""
        conversation = check("pgsql", **PRIMARY).begin(SUBJECT)
        reply = conversation.received(SCRAM + message(b"R", CHALLENGE) * 2)
        assert reply.verdict is not None
        self.assertIn("SCRAM", reply.verdict.cause)


class BoundedTests(SynchronousTestCase):
    """The limit of any conversation."""

    def test_plug_in(self) -> None:
        """A plug-in that never decides has failed, and has not got more bytes than the limit."""
        waiting = WaitingConversation()
        conversation = BoundedConversation(Limited(), waiting)
        self.assertEqual(conversation.opened(), WAIT)
        self.assertEqual(conversation.received(b"12345678"), WAIT)
        verdict = conversation.received(b"abcdef").verdict
        assert verdict is not None
        self.assertEqual((verdict.passed, verdict.cause), (False, "the answer is too long"))
        self.assertEqual((b"".join(waiting.kept), conversation.is_exceeded), (b"12345678ab", True))
        self.assertRegex(repr(conversation), "0 of 10 bytes")

    def test_exactly(self) -> None:
        """An answer of as many bytes as the limit is complete; the verdict may come with the last one."""
        conversation = BoundedConversation(Limited(), WaitingConversation())
        conversation.opened()
        self.assertEqual(conversation.received(bytes(10)), WAIT)
        verdict = conversation.ended().verdict
        assert verdict is not None
        self.assertIn("closed", verdict.cause)

    def test_default_cause(self) -> None:
        """Without words of its own a check names the limit."""
        conversation = BoundedConversation(Limited(), CheckConversation())
        conversation.opened()
        verdict = conversation.received(bytes(11)).verdict
        assert verdict is not None
        self.assertEqual(verdict.cause, "there is no verdict after 10 bytes of the answer")

    def test_datagrams(self) -> None:
        """A datagram is not cut, and empty ones are counted."""
        waiting = WaitingConversation()
        conversation = BoundedConversation(LimitedDatagrams(), waiting)
        conversation.opened()
        for _ in range(5):
            self.assertEqual(conversation.received(b""), WAIT)
        self.assertIsNotNone(conversation.received(b"123456").verdict)
        self.assertEqual(waiting.kept, [b""] * 5)
