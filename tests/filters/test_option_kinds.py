"""Tests of `portfwd.filters.option_kinds`: texts, values, and what is said of wrong ones."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, RulesError
from portfwd.filters import option_kinds
from portfwd.filters.option_kinds import (
    FileKind,
    FileText,
    OptionFiles,
    OptionKind,
    address,
    between,
    choice,
    data,
    decimal,
    duration,
    file_of,
    file_path,
    file_text,
    fraction,
    integer,
    networks,
    number,
    rate,
    regex,
    size,
    switch,
    text,
    words,
)
from portfwd.values import InetAddress, UnixAddress

GOOD: list[tuple[OptionKind[Any], str, Any]] = [
    (text, "a b", "a b"),
    (words, "a, b,c", ("a", "b", "c")),
    (number, "007", 7),
    (integer, "-3", -3),
    (decimal, "-0.5", -0.5),
    (decimal, "3", 3.0),
    (fraction, "25%", 0.25),
    (fraction, "0.5", 0.5),
    (fraction, "1", 1.0),
    (fraction, "100%", 1.0),
    (size, "64KiB", 65536),
    (duration, "1m30s", 90.0),
    (rate, "10MiB/s", 10 * 1024**2),
    (rate, "200", 200),
    (switch, "on", True),
    (switch, "off", False),
    (choice("up", "down"), "up", "up"),
    (networks, "10.0.0.0/8", (ipaddress.ip_network("10.0.0.0/8"),)),
    (networks, "::1,192.0.2.1", (ipaddress.ip_network("::1"), ipaddress.ip_network("192.0.2.1"))),
    (address, "db.example:5432", InetAddress("db.example", 5432)),
    (address, "[2001:db8::1]:80", InetAddress("2001:db8::1", 80)),
    (address, "unix:/run/x", UnixAddress("/run/x")),
    (data, r"a\x00\xFF\n\r\t\0\\", b"a\x00\xff\n\r\t\0\\"),
    (data, "\N{LATIN SMALL LETTER E WITH ACUTE}", b"\xc3\xa9"),
    (data, "\udcff", b"\xff"),
]
BAD: list[tuple[OptionKind[Any], str, str]] = [
    (text, "", "expected something"),
    (words, "a,,b", "expected words with commas"),
    (number, "-1", "expected a whole number"),
    (number, "\N{ARABIC-INDIC DIGIT ONE}", "expected a whole number"),
    (number, "1" * 5000, "expected a whole number"),
    (integer, "1.5", "expected a whole number"),
    (decimal, "1e9", "expected a number"),
    (decimal, "nan", "expected a number"),
    (fraction, "1.01", "from 0 to 1"),
    (fraction, "101%", "from 0 to 1"),
    (fraction, "-0.1", "from 0 to 1"),
    (size, "64 KiB", "expected a size"),
    (duration, "soon", "expected a duration"),
    (rate, "fast", "expected bytes a second"),
    (switch, "yes", "expected on or off"),
    (choice("up", "down", "both"), "left", "expected up, down or both"),
    (choice("up"), "left", "expected up"),
    (networks, "10.0.0.1/8", r"bits set beyond its prefix: write 10\.0\.0\.0/8"),
    (networks, "example.com", "'example.com' is no network"),
    (networks, "\x1b", r"'\\x1b' is no network"),
    (address, "example.com", "expected HOST:PORT"),
    (address, "example.com:0", "expected HOST:PORT"),
    (address, "a:65536", "expected HOST:PORT"),
    (address, "::1:80", "expected HOST:PORT"),
    (address, "[example.com]:80", "expected HOST:PORT"),
    (address, "[a:b]:80", "expected HOST:PORT"),
    (address, "unix:", "expected HOST:PORT"),
    (data, "", "expected something"),
    (data, r"\q", "after a backslash comes"),
    (data, r"\x4", "after a backslash comes"),
    (data, "a\\", "after a backslash comes"),
    (regex, "(", "not a regular expression: missing"),
    (regex, "a{99999999999999999999}", "not a regular expression"),
    (regex, "", "expected something"),
]


def refuses(path: str) -> str:
    """A reader of files that cannot."""
    if path == "text":
        raise RulesError([Problem(Location(path), "not-utf-8", "byte 0xff is not UTF-8")])
    raise PermissionError(13, "Permission denied", path)


FILES = OptionFiles(lambda path: f"text of {path}", lambda path: f"/cwd/{path}")
REFUSING = OptionFiles(refuses, str)


class KindTests(SynchronousTestCase):
    """Kinds of values that stand in the clause itself."""

    def test_good(self) -> None:
        """Each reads what it should, and called like a function it does the same."""
        for kind, said, value in GOOD:
            self.assertEqual(kind.read(said), value, said)
            self.assertEqual(kind(said), value, said)

    def test_back(self) -> None:
        """What a kind writes it reads back as the same value."""
        for kind, said, value in GOOD:
            self.assertEqual(kind.read(kind.write(value)), value, said)
        self.assertEqual(regex.read(regex.write(regex.read("a+"))).pattern, b"a+")

    def test_bad(self) -> None:
        """What is no value is refused with what was expected, on one line."""
        for kind, said, message in BAD:
            error = self.assertRaises(ValueError, kind.read, said)
            self.assertRegex(str(error), message, said)
            self.assertNotIn("\n", str(error))

    @given(st.binary(min_size=1))
    @settings(max_examples=50, deadline=None)
    def test_data_back(self, value: bytes) -> None:
        """Any bytes can be written, in visible ASCII, and are read back."""
        written = data.write(value)
        self.assertTrue(written.isascii() and written.isprintable())
        self.assertEqual(data.read(written), value)

    @given(st.text())
    @settings(max_examples=50, deadline=None)
    def test_nothing_else_escapes(self, said: str) -> None:
        """Whatever the text is, a kind reads it or raises a ValueError."""
        for kind in (words, number, integer, decimal, fraction, rate, switch, networks, address, data):
            try:
                kind.read(said)
            except ValueError as error:
                self.assertTrue(str(error))

    def test_bounds(self) -> None:
        """Bounds belong to the values, and are told as a rules file writes them."""
        kind = between(size, 1024, 1024**2)
        self.assertEqual((kind.read("1KiB"), kind.unit), (1024, "size"))
        self.assertRegex(str(self.assertRaises(ValueError, kind.read, "1")), "the least is 1KiB")
        self.assertRegex(str(self.assertRaises(ValueError, kind.read, "1GiB")), "the most is 1MiB")
        self.assertEqual(between(number, 1).read("999999"), 999999)
        self.assertEqual(between(integer, None, 5).read("-7"), -7)

    def test_regex(self) -> None:
        """A pattern is over bytes; it has the flags that it says itself."""
        self.assertTrue(regex.read(r"(?i)host: \w+\xff").search(b"HOST: a\xff"))

    def test_examples(self) -> None:
        """The example that help shows for a kind is a text that the kind reads."""
        kinds = [kind for kind in vars(option_kinds).values() if isinstance(kind, OptionKind)]
        self.assertGreater(len(kinds), 10)
        for kind in (*kinds, choice("a", "b")):
            self.assertTrue(kind.example, kind)
            kind.read(kind.example)


class FileKindTests(SynchronousTestCase):
    """Kinds of values that are in files."""

    def test_text(self) -> None:
        """The value is path and text; printed, it does not show the text."""
        value = file_text.load(FILES, "users")
        self.assertEqual(value, FileText("users", "text of users"))
        self.assertNotIn("text of", repr(value))

    def test_path(self) -> None:
        """A path alone is made absolute, and nothing is read."""
        self.assertEqual(file_path.load(OptionFiles(refuses, lambda path: f"/cwd/{path}"), "log"), "/cwd/log")

    def test_parsed(self) -> None:
        """A file may have a reader of its own, whose complaint comes with the path."""

        def parse(text: str) -> int:
            if "bad" in text:
                raise ValueError("line 3: no colon")
            return len(text)

        kind: FileKind[int] = file_of(parse)
        self.assertEqual(kind.load(FILES, "users"), 13)
        error = self.assertRaises(ValueError, kind.load, FILES, "bad")
        self.assertEqual(str(error), "bad: line 3: no colon")

    def test_unreadable(self) -> None:
        """What cannot be read is told with path and reason; an empty path is none."""
        for path, message in (
            ("users", "cannot read 'users': Permission denied"),
            ("text", "cannot read 'text': byte 0xff is not UTF-8"),
            ("", "expected something"),
        ):
            for kind in (file_text, file_of(str)):
                error = self.assertRaises(ValueError, kind.load, REFUSING, path)
                self.assertEqual(str(error), message)
        self.assertRaises(ValueError, file_path.load, FILES, "")
