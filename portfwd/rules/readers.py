# -*- test-case-name: tests.rules.test_options -*-
"""
Parsers and writers for the values of options, with their bounds.

Each function makes a `ValueKind` for the table in `portfwd.rules.options`. Each bound has a name and a
reason.
"""

from __future__ import annotations

import base64
import enum
import ipaddress
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.quantities import MAX_DURATION, format_duration, format_size, parse_duration, parse_size
from portfwd.rules import meant
from portfwd.rules.addresses import Role, read_host
from portfwd.rules.findings import suggestion
from portfwd.rules.model import Keepalive
from portfwd.rules.tokens import NAME, WordFault

Reader = Callable[[str], Any]
Writer = Callable[[Any], str]

#: Bytes of a read buffer. Smaller reads are mostly overhead; larger buffers take too much memory for a
#: session.
MIN_BUFFER: Final = 1024
MAX_BUFFER: Final = 16 * 1024**2
#: Bytes of a pipe: at least one page (pipe(7)), at most what a fast link can fill between two turns.
MIN_PIPE: Final = 4096
MAX_PIPE: Final = 16 * 1024**2
#: Bytes of a socket buffer. The kernel doubles the value and stores it as a signed 32 bit number (socket(7)).
MAX_SOCKET_BUFFER: Final = 2**30 - 1
#: Longest accept queue. ``net.core.somaxconn`` had 16 bits for long, and its default is 4096.
MAX_BACKLOG: Final = 65535
#: Seconds of TCP_USER_TIMEOUT: 24 days in milliseconds fit into a signed 32 bit number.
MAX_USER_TIMEOUT: Final = 24 * 86400
#: Longest time for connecting and for lingering data, in seconds.
MAX_DIAL: Final = 3600
#: Shortest limit of silence, in seconds. Shorter pauses are normal in a network.
MIN_IDLE: Final = 0.1
#: Most expected answers. No protocol answers a question with more datagrams.
MAX_ANSWERS: Final = 1000
#: Most bytes to keep before the upstream is connected: more than the first messages of any protocol.
MAX_ANSWERS_BEFORE_REPLY: Final = 1_000_000
#: Most sessions: more than the descriptors of a process (``fs.nr_open`` is 1 048 576 by default).
MAX_CONNECTIONS: Final = 1_048_576
#: HAProxy's bound.
MAX_WEIGHT: Final = 256
#: Most failures in a row before a target is down.
MAX_FAILS: Final = 1000
#: Most new sessions a second: more than one process can accept.
MAX_RATE: Final = 1_000_000
#: Smallest bandwidth in bytes a second. Below it, more than one second would pass between two segments.
MIN_BANDWIDTH: Final = 1024
#: Largest bandwidth: a terabyte a second.
MAX_BANDWIDTH: Final = 1024**4
#: Longest refresh of a name: RFC 2181 section 8 allows 68 years, RFC 8767 section 5 recommends seven days.
MAX_DNS_REFRESH: Final = 7 * 86400
#: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT of Linux' include/net/tcp.h.
MAX_KEEP_SECONDS: Final = 32767
MAX_KEEP_COUNT: Final = 127
#: RFC 7301 section 3.1: a protocol name has 1 to 255 bytes.
MAX_ALPN: Final = 255
#: Bytes of a SHA-256 digest.
SHA256_SIZE: Final = 32

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?", re.ASCII)
_RATE_UNITS: Final = {None: 1, "s": 1, "m": 60, "h": 3600}
_MODE = re.compile(r"(?:0o)?([0-7]{1,5})", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


@frozen
class ValueKind:
    """
    The parser and the writer of one kind of value.

    :ivar unit: its name for people: ``duration``, ``size``, ``on | off``.
    :ivar bounds: smallest and largest value, for people; empty if there are none.
    """

    unit: str
    read: Reader
    write: Writer
    bounds: str = ""


def _bounded(value: Any, low: Any, high: Any, write: Writer) -> Any:
    if low is not None and value < low:
        raise WordFault("out-of-bounds", f"the least is {write(low)}")
    if high is not None and value > high:
        raise WordFault("out-of-bounds", f"the most is {write(high)}")
    return value


def _range(low: Any, high: Any, write: Writer) -> str:
    return f"{write(low)} to {write(high)}"


def _foreign(read: Callable[[str], Any], text: str, meant: Callable[[str], str]) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise WordFault("bad-value", str(error), meant(text)) from None


def duration(low: float, high: float | None) -> ValueKind:
    """Seconds between `low` and `high`; None for ten years."""
    most = MAX_DURATION if high is None else high
    return ValueKind(
        "duration",
        lambda text: _bounded(_foreign(parse_duration, text, meant.duration), low, most, format_duration),
        format_duration,
        _range(low, most, format_duration),
    )


def size(low: int, high: int) -> ValueKind:
    """Bytes between `low` and `high`."""
    return ValueKind(
        "size",
        lambda text: _bounded(_foreign(parse_size, text, meant.size), low, high, format_size),
        format_size,
        _range(low, high, format_size),
    )


def whole(low: int, high: int) -> ValueKind:
    """A whole number between `low` and `high`."""

    def read(text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise WordFault("bad-value", "expected a whole number", meant.number(text))
        number: int = _bounded(int(text), low, high, str)
        return number

    return ValueKind("number", read, str, _range(low, high, str))


def rate() -> ValueKind:
    """Events a second: ``200/s``, ``30/m``, or a plain number."""

    def write(value: float) -> str:
        number = Decimal(repr(float(value)))
        return f"{number.to_integral_value() if number == number.to_integral_value() else number:f}/s"

    def read(text: str) -> float:
        match = _RATE.fullmatch(text)
        if match is None:
            hint = "the units of time are /s, /m and /h" if "/" in text else ""
            raise WordFault("bad-value", "expected a rate such as 200/s or 30/m", hint)
        # Decimal accepts numbers of thousands of digits. Check the bound before converting to a float.
        number = Decimal(match[1]) / _RATE_UNITS[match[2]]
        if number == 0:
            raise WordFault("out-of-bounds", "a rate of nothing would refuse everybody")
        return float(_bounded(number, None, MAX_RATE, lambda most: f"{most}/s"))

    return ValueKind("rate", read, write, f"more than 0, to {MAX_RATE}/s")


def bandwidth() -> ValueKind:
    """Bytes a second: ``10MiB/s``. The ``/s`` is optional."""

    def write(value: int) -> str:
        return format_size(value) + "/s"

    def read(text: str) -> int:
        try:
            number = parse_size(text.removesuffix("/s"))
        except ValueError:
            raise WordFault(
                "bad-value", "expected bytes a second such as 10MiB/s", meant.bandwidth(text)
            ) from None
        _bounded(number, MIN_BANDWIDTH, MAX_BANDWIDTH, write)
        return number

    return ValueKind("size/s", read, write, _range(MIN_BANDWIDTH, MAX_BANDWIDTH, write))


def switch() -> ValueKind:
    """``on`` or ``off``."""

    def read(text: str) -> bool:
        if text not in {"on", "off"}:
            raise WordFault("bad-value", "expected on or off")
        return text == "on"

    return ValueKind("on | off", read, lambda value: "on" if value else "off")


def word(*words: str, other: Mapping[str, str] = MappingProxyType({})) -> ValueKind:
    """
    One of `words`, as text.

    :param other: synonyms, and the words that they mean.
    """

    def read(text: str) -> str:
        text = other.get(text, text)
        if text not in words:
            raise WordFault("bad-value", f"expected {_one_of(words)}", suggestion(text, words))
        return text

    return ValueKind(" | ".join(words), read, str)


def choice(kind: type[enum.Enum]) -> ValueKind:
    """One of the values of an enumeration."""
    words: dict[str, enum.Enum] = {str(member.value): member for member in kind}

    def read(text: str) -> enum.Enum:
        member = words.get(text)
        if member is None:
            raise WordFault("bad-value", f"expected {_one_of(tuple(words))}", suggestion(text, words))
        return member

    return ValueKind(" | ".join(words), read, lambda member: str(member.value))


def _one_of(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def keepalive() -> ValueKind:
    """``on``, ``off``, or ``idle:interval:count`` in seconds, seconds and probes. Parts may be empty."""

    def read(text: str) -> Keepalive:
        if text in {"on", "off"}:
            return Keepalive(text == "on")
        parts = text.split(":")
        if len(parts) != 3 or not any(parts):
            raise WordFault("bad-value", "expected on, off or idle:interval:count such as 60:10:5")
        most = (MAX_KEEP_SECONDS, MAX_KEEP_SECONDS, MAX_KEEP_COUNT)
        numbers = [_keep_number(part, high) if part else None for part, high in zip(parts, most, strict=True)]
        return Keepalive(True, *numbers)

    def write(value: Keepalive) -> str:
        parts = (value.idle, value.interval, value.count)
        if not value.enabled or parts == (None, None, None):
            return "on" if value.enabled else "off"
        return ":".join("" if part is None else str(part) for part in parts)

    seconds = f"1s to {MAX_KEEP_SECONDS}s"
    return ValueKind(
        "on | off | idle:interval:count", read, write, f"{seconds}, {seconds}, 1 to {MAX_KEEP_COUNT}"
    )


def _keep_number(text: str, most: int) -> int:
    if _NUMBER.fullmatch(text):
        return int(_bounded(int(text), 1, most, str))
    seconds = _foreign(parse_duration, text, meant.duration)
    if seconds != int(seconds):
        raise WordFault("bad-value", "keep-alive counts whole seconds")
    return int(_bounded(int(seconds), 1, most, str))


def mode() -> ValueKind:
    """Permission bits in octal, with or without a leading ``0``."""

    def read(text: str) -> int:
        match = _MODE.fullmatch(text)
        if match is None:
            raise WordFault("bad-value", "expected permission bits in octal such as 0660")
        bits: int = _bounded(int(match[1], 8), None, 0o777, "{:04o}".format)
        return bits

    return ValueKind("octal", read, "{:04o}".format, "0000 to 0777")


def text(unit: str) -> ValueKind:
    """Any text that is not empty."""

    def read(value: str) -> str:
        if not value:
            raise WordFault("bad-value", f"expected a {unit}" if unit == "file" else "expected something")
        return value

    return ValueKind(unit, read, str)


def label() -> ValueKind:
    """A name that is defined by another line of the file."""

    def read(value: str) -> str:
        if not NAME.fullmatch(value):
            raise WordFault("bad-name", "expected a name of letters, digits, '_', '.' and '-'")
        return value

    return ValueKind("label", read, str)


def literal() -> ValueKind:
    """An IPv4 or IPv6 address, optionally in brackets, or rinetd's ``0`` for any address."""

    def read(value: str) -> str | None:
        if value == "0":
            return None
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise WordFault(
                "bad-value", "expected an address", "a name would have to be looked up for each session"
            ) from None
        return bare

    return ValueKind("address", read, str)


def host_name() -> ValueKind:
    """A host name or an address."""

    def read(value: str) -> str:
        try:
            return read_host(value, Role.TARGET, brackets=False)
        except WordFault as fault:
            raise WordFault("bad-value", "expected the name of a host", fault.hint) from None

    return ValueKind("name", read, str)


def protocols() -> ValueKind:
    """Names of protocols (RFC 7301), separated by commas: ``h2,http/1.1``."""

    def read(value: str) -> tuple[str, ...]:
        names = tuple(value.split(","))
        if not all(0 < len(name.encode("utf-8", "replace")) <= MAX_ALPN for name in names):
            raise WordFault("bad-value", "expected names of protocols such as h2,http/1.1")
        return names

    return ValueKind("list", read, ",".join, f"names of 1 to {MAX_ALPN} bytes")


def names() -> ValueKind:
    """Patterns of names, separated by commas: ``*.example.com,alice``."""

    def read(value: str) -> tuple[str, ...]:
        patterns = tuple(value.split(","))
        if not all(patterns):
            raise WordFault("bad-value", "expected names such as *.example.com,alice@example.com")
        return patterns

    return ValueKind("list", read, ",".join)


def fingerprints() -> ValueKind:
    """
    SHA-256 fingerprints, separated by commas: of a certificate in hex, of a public key as ``sha256//BASE64``.

    The first form is the output of ``openssl x509 -fingerprint -sha256``, with or without colons; the second
    is the argument of curl's ``--pinnedpubkey``.
    """

    def read(value: str) -> tuple[str, ...]:
        return tuple(_fingerprint(one) for one in value.split(","))

    return ValueKind("fingerprints", read, ",".join)


def _fingerprint(text: str) -> str:
    kind, slashes, encoded = text.partition("//")
    if slashes and kind.lower() == "sha256":
        try:
            if len(base64.b64decode(encoded, validate=True)) == SHA256_SIZE:
                return f"sha256//{encoded}"
        except ValueError:
            pass
    digits = text.replace(":", "").lower()
    if re.fullmatch(f"[0-9a-f]{{{2 * SHA256_SIZE}}}", digits):
        return digits
    raise WordFault(
        "bad-value",
        "expected a SHA-256 fingerprint: 64 hex digits of a certificate, or sha256//BASE64 of a key",
        "'openssl x509 -noout -fingerprint -sha256 -in FILE' prints the first",
    )
