# -*- test-case-name: tests.upstreams.checks.test_dns -*-
"""The check ``dns``: sends a question by UDP (RFC 1035)."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen

from portfwd.filters.options import OptionKind, choice, option, text, words
from portfwd.upstreams.checks.api import (
    WAIT,
    Check,
    CheckCarrier,
    CheckConversation,
    CheckReply,
    Subject,
    failed,
    passed,
)
from portfwd.values import ascii_host
from portfwd.wire.dns import HEADER

_TYPES: Final = {"A": 1, "NS": 2, "SOA": 6, "TXT": 16, "AAAA": 28, "SRV": 33}
_CODES: Final = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def _name(value: str) -> str:
    name = ascii_host(text.read(value)).rstrip(".")
    if any(not 0 < len(label.encode()) < 64 for label in name.split(".")) and name:
        raise ValueError("a label of a name has 1 to 63 characters")
    if len(name) > 253:
        raise ValueError("a name has at most 253 characters")
    return name


def _codes(value: str) -> tuple[str, ...]:
    found = tuple(word.upper() for word in words.read(value))
    for one in found:
        if one not in _CODES.values():
            raise ValueError(f"expected {', '.join(_CODES.values())}")
    return found


@frozen
class DNSCheck(Check):
    """
    Asks a name server for a name by UDP, and passes if it answers without an error.

    A missing answer is a failure, so the check does not depend on ICMP.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.DATAGRAM

    name: str = option(
        OptionKind("name", _name, str),
        help="The name to ask for; `.` is the root.",
        example="example.com",
    )
    type: str = option(choice(*_TYPES), default="A", help="The type of the record.")
    rcode: tuple[str, ...] = option(
        OptionKind("codes", _codes, ",".join),
        default=("NOERROR",),
        help="Response codes that pass, such as `NOERROR,NXDOMAIN`.",
    )

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return DNSConversation(self, int(subject.token[:4], 16))


class DNSConversation(CheckConversation):
    """One question."""

    def __init__(self, options: DNSCheck, number: int) -> None:
        self._options = options
        self._number = number

    def opened(self) -> CheckReply:
        """Ask, with recursion desired."""
        labels = self._options.name.split(".") if self._options.name else []
        name = b"".join(bytes([len(one)]) + one.encode() for one in labels) + b"\0"
        kind = _TYPES[self._options.type].to_bytes(2, "big")
        return CheckReply(
            self._number.to_bytes(2, "big") + b"\x01\0\0\x01\0\0\0\0\0\0" + name + kind + b"\0\x01"
        )

    def received(self, data: bytes) -> CheckReply:
        """Judge the answer; datagrams that are not answers are ignored, as by a resolver."""
        if len(data) < HEADER or int.from_bytes(data[:2], "big") != self._number or not data[2] & 0x80:
            return WAIT
        code = _CODES.get(data[3] & 0x0F, str(data[3] & 0x0F))
        return passed(code) if code in self._options.rcode else failed(code)
