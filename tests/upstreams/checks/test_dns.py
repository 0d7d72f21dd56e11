"""Tests of the check ``dns``."""

from __future__ import annotations

from portfwd.upstreams.checks.api import CheckCarrier
from tests.upstreams.checks.talking import SUBJECT, CheckCase, check

QUESTION = b"\x01\x23\x01\0\0\x01\0\0\0\0\0\0\7example\3com\0\0\x01\0\x01"


class DNSTests(CheckCase):
    """Questions and answers; a datagram is never split."""

    def verdict(self, answer: bytes, **options: str) -> tuple[bool, str] | None:
        """Of one datagram; None: it was no answer."""
        conversation = check("dns", name="example.com", **options).begin(SUBJECT)
        conversation.opened()
        found = conversation.received(answer).verdict
        return None if found is None else (found.passed, found.cause)

    def test_question(self) -> None:
        """One question, with the number of the token."""
        made = check("dns", name="example.com.")
        self.assertEqual(made.begin(SUBJECT).opened().send, QUESTION)
        self.assertIs(made.carrier, CheckCarrier.DATAGRAM)
        root = check("dns", name=".", type="NS").begin(SUBJECT).opened().send
        self.assertEqual(root[12:], b"\0\0\2\0\1")

    def test_codes(self) -> None:
        """NOERROR passes, or the codes that are named."""
        self.assertEqual(self.verdict(b"\x01\x23\x81\x80" + bytes(8)), (True, "NOERROR"))
        self.assertEqual(self.verdict(b"\x01\x23\x81\x83" + bytes(8)), (False, "NXDOMAIN"))
        self.assertEqual(
            self.verdict(b"\x01\x23\x81\x83" + bytes(8), rcode="noerror,nxdomain"), (True, "NXDOMAIN")
        )

    def test_strangers(self) -> None:
        """A datagram with another number, a question, and what is too short are no answers."""
        for answer in (b"\x01\x24\x81\x80" + bytes(8), QUESTION, b"\x01\x23\x81\x80"):
            self.assertIsNone(self.verdict(answer))

    def test_options(self) -> None:
        """A name that cannot be one, and a code that is none, are refused."""
        for options in ({"name": "a..b"}, {"name": "x" * 64}, {"name": "a", "rcode": "FINE"}, {}):
            self.assertRaises(ValueError, check, "dns", **options)
        self.assertRaises(ValueError, check, "dns", name=".".join(["abcdefgh"] * 32))
