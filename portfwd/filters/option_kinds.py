# -*- test-case-name: tests.filters.test_option_kinds -*-
r"""
Kinds of values of filter options: their parsers and writers.

An `OptionKind` parses a text of a rules file and raises a `ValueError` that says what was expected; it is
callable. A `FileKind` is for values in a file; it reads the file through the `OptionFiles` of the caller.
Authors can also use their own functions from text to value, or their own `OptionKind`. This module opens no
file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from attrs import evolve, field, frozen

from portfwd.errors import RulesError
from portfwd.quantities import format_duration, format_size, parse_duration, parse_size
from portfwd.values import Address, InetAddress, UnixAddress, is_literal, printable

Value = TypeVar("Value")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Most digits of a number, which bounds the work for a long line of digits.
MAX_DIGITS: Final = 18

#: Most characters of a regular expression. The time of Python's compiler is quadratic, here some
#: milliseconds.
MAX_REGEX: Final = 1024

_WHOLE = re.compile(rf"\d{{1,{MAX_DIGITS}}}", re.ASCII)
_INTEGER = re.compile(rf"-?\d{{1,{MAX_DIGITS}}}", re.ASCII)
_DECIMAL = re.compile(rf"-?\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?", re.ASCII)
_FRACTION = re.compile(rf"(\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?)(%?)", re.ASCII)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_PLAIN_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


@frozen
class OptionKind(Generic[Value]):
    """
    A kind of value: how it is read and written.

    :ivar unit: its name in help texts, such as ``duration``, ``size`` or ``on | off``.
    :ivar read: makes a value of a text; raises `ValueError`.
    :ivar write: makes a text of a value, which `read` can read.
    :ivar example: an example of a text, for the help text.
    """

    unit: str
    read: Callable[[str], Value]
    write: Callable[[Value], str] = str
    example: str = ""

    def __call__(self, text: str) -> Value:
        """
        Read `text`.

        :raises ValueError: the text is not a value of this kind; the message says what is expected.
        """
        return self.read(text)


@frozen
class OptionFiles:
    """
    How options read files.

    :ivar read: returns the text of a file; raises `OSError` or `RulesError`.
    :ivar absolute: makes a path absolute.
    :ivar read_tight: as `read`, for a file that decides who is let in. It also raises `ValueError` if other
        users may write the file. None: `read` is used.
    """

    read: Callable[[str], str]
    absolute: Callable[[str], str]
    read_tight: Callable[[str], str] | None = None


@frozen
class FileKind(Generic[Value]):
    """
    A kind of value that is read from a file.

    :ivar unit: the name of the kind in help texts.
    :ivar load: makes the value of a path; raises `ValueError`.
    :ivar example: an example of a path, for the help text.
    """

    unit: str
    load: Callable[[OptionFiles, str], Value]
    example: str = "FILE"


@frozen
class FileText:
    """
    A file that an option names, and its text.

    The text is not in the repr, because it may contain passwords.
    """

    path: str
    text: str = field(repr=False)


def between(kind: OptionKind[Value], low: Any, high: Any = None) -> OptionKind[Value]:
    """`kind` with a minimum and a maximum, which are valid values; None: no such bound."""

    def read(text: str) -> Value:
        value: Any = kind.read(text)
        if low is not None and value < low:
            raise ValueError(f"the least is {kind.write(low)}")
        if high is not None and value > high:
            raise ValueError(f"the most is {kind.write(high)}")
        found: Value = value
        return found

    return evolve(kind, read=read)


def choice(*words: str, spelled: Callable[[str], str] = str) -> OptionKind[str]:
    """
    One of `words`.

    :param spelled: turns another spelling into one of the words.
    """

    def read(text: str) -> str:
        word = spelled(text)
        if word not in words:
            raise ValueError(f"expected {one_of(words)}")
        return word

    return OptionKind(" | ".join(words), read, str, words[0])


def list_of(kind: OptionKind[Any], container: Callable[[list[Any]], Any] = tuple) -> OptionKind[Any]:
    """
    Values of `kind`, separated by commas.

    :param container: the type of the result: ``tuple``, ``list`` or ``frozenset``.
    """

    def read(text: str) -> Any:
        return container([kind.read(part) for part in text.split(",")])

    def write(values: Iterable[Any]) -> str:
        texts = [kind.write(one) for one in values]
        return ",".join(sorted(texts) if isinstance(values, AbstractSet) else texts)

    return OptionKind(f"{kind.unit},…", read, write, f"{kind.example},{kind.example}")


def one_of(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *before, last = words
    return f"{', '.join(before)} or {last}" if before else last


def file_of(parse: Callable[[str], Value], *, tight: bool = False) -> FileKind[Value]:
    """
    The result of `parse` for the text of the file that the option names.

    :param parse: raises `ValueError` if the text is wrong; the message names the line.
    :param tight: the file is refused if other users may write it.
    """

    def load(files: OptionFiles, path: str) -> Value:
        text = _file_text(files, path, tight=tight).text
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{printable(path)}: {error}") from error

    return FileKind("file", load)


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError("expected a whole number")
    return int(text)


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("expected a whole number")
    return int(text)


def _decimal(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("expected a number such as 3 or 0.5")
    return float(text)


def _fraction(text: str) -> float:
    match = _FRACTION.fullmatch(text)
    value = None if match is None else Decimal(match[1]) / (100 if match[2] else 1)
    if value is None or value > 1:
        raise ValueError("expected a fraction from 0 to 1, such as 0.25 or 25%")
    return float(value)


def _write_decimal(value: float) -> str:
    return f"{Decimal(repr(float(value))).normalize():f}"


def _rate(text: str) -> int:
    try:
        return parse_size(text.removesuffix("/s"))
    except ValueError:
        raise ValueError("expected bytes a second such as 64KiB/s") from None


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("expected on or off")
    return text == "on"


def _text(text: str) -> str:
    if not text:
        raise ValueError("expected something")
    return text


def _words(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError("expected words with commas between them")
    return parts


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(_network(part) for part in _words(text))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{printable(text[:60])}' is no network such as 10.0.0.0/8") from None
    raise ValueError(f"'{text}' has bits set beyond its prefix: write {wider}")


def _data(text: str) -> bytes:
    def unescaped(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if len(escape) == 3:
            return bytes([int(escape[1:], 16)])
        if escape in _PLAIN_ESCAPES:
            return _PLAIN_ESCAPES[escape]
        raise ValueError(r"after a backslash comes xNN (two hexadecimal digits), n, r, t, 0 or a backslash")

    # Bytes of the command line that are not UTF-8 arrive as lone surrogates. Convert them back.
    return _ESCAPE.sub(unescaped, _text(text).encode("utf-8", "surrogateescape"))


def _write_data(value: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" if byte != 0x5C else "\\\\"
        for byte in value
    )


def _regex(text: str) -> re.Pattern[bytes]:
    if len(text) > MAX_REGEX:
        raise ValueError(f"a regular expression has at most {MAX_REGEX} characters")
    try:
        return re.compile(_text(text).encode("utf-8", "surrogateescape"))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None


def _write_regex(value: re.Pattern[bytes]) -> str:
    return value.pattern.decode("utf-8", "surrogateescape")


def _address(text: str) -> Address:
    if text.startswith("unix:") and len(text) > len("unix:"):
        return UnixAddress(text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    # Only IPv6 addresses have brackets.
    good = bool(colon and inner) and (":" in inner) == (inner != host) and _WHOLE.fullmatch(port)
    if not good or not 0 < int(port) < 65536 or (":" in inner and not is_literal(inner)):
        raise ValueError("expected HOST:PORT, [IPV6]:PORT or unix:PATH")
    return InetAddress(inner, int(port))


def _file_text(files: OptionFiles, path: str, *, tight: bool = False) -> FileText:
    read = files.read_tight if tight and files.read_tight is not None else files.read
    try:
        return FileText(path, read(_text(path)))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if isinstance(error, FileNotFoundError):
            reason += "; put the file there, or name the path at which it is"
    except RulesError as error:
        reason = error.problems[0].message
    raise ValueError(f"cannot read '{printable(path)}': {reason}")


#: A text that is not empty.
text: Final = OptionKind("text", _text, str, "TEXT")
#: Words separated by commas, as a tuple.
words: Final = OptionKind("list", _words, ",".join, "ONE,TWO")
#: A whole number that is not negative.
number: Final = OptionKind("number", _whole, str, "3")
#: A whole number.
integer: Final = OptionKind("number", _integer, str, "3")
#: A decimal number.
decimal: Final = OptionKind("number", _decimal, _write_decimal, "0.5")
#: A number from 0 to 1: ``0.25`` or ``25%``.
fraction: Final = OptionKind("fraction", _fraction, _write_decimal, "25%")
#: A number of bytes: ``64KiB``.
size: Final = OptionKind("size", parse_size, format_size, "64KiB")
#: A duration, as seconds: ``250ms``, ``5m``.
duration: Final = OptionKind("duration", parse_duration, format_duration, "5s")
#: Bytes a second: ``64KiB/s``. The ``/s`` is optional.
rate: Final = OptionKind("rate", _rate, lambda value: format_size(value) + "/s", "64KiB/s")
#: ``on`` or ``off``.
switch: Final = OptionKind("on | off", _switch, lambda value: "on" if value else "off", "on")
#: Addresses and networks of IPv4 and IPv6, separated by commas, as a tuple.
networks: Final = OptionKind("networks", _networks, lambda value: ",".join(map(str, value)), "10.0.0.0/8")
#: ``HOST:PORT`` or ``unix:PATH``, as an `Address`.
address: Final = OptionKind("address", _address, str, "127.0.0.1:9000")
#: Bytes: text in UTF-8, with ``\xNN``, ``\n``, ``\r``, ``\t``, ``\0`` and ``\\``.
data: Final = OptionKind("bytes", _data, _write_data, r"\x00")
#: A regular expression for bytes, in the syntax of Python's `re`.
regex: Final = OptionKind("pattern", _regex, _write_regex, "[0-9]+")
#: A file, read when the filter is configured, as a `FileText`.
file_text: Final = FileKind("file", _file_text)
#: A file that is not read, as an absolute path.
file_path: Final = FileKind("file", lambda files, path: files.absolute(_text(path)))
