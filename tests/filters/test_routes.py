"""Tests of `portfwd.filters.routes`: which line is for a connection."""

from __future__ import annotations

import fnmatch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import DONE, Close, Route, RouteClause
from portfwd.filters.routes import MAX_PATTERN, Routes, check_host


def lines(*patterns: str) -> list[RouteClause]:
    """Make a line of each text, whose target is its number; blanks separate patterns."""
    return [RouteClause(tuple(text.split()), number) for number, text in enumerate(patterns)]


class FindTests(SynchronousTestCase):
    """The first line that matches."""

    def find(self, keys: tuple[str, ...], *patterns: str) -> object:
        """Return the number of the line for `keys`."""
        clause = Routes(lines(*patterns), check_host).find(keys)
        return None if clause is None else clause.target

    def test_first(self) -> None:
        """The first line decides, whether it is exact or a glob."""
        self.assertEqual(self.find(("a.example",), "*.example", "a.example"), 0)
        self.assertEqual(self.find(("a.example",), "a.example", "*.example"), 0)
        self.assertEqual(self.find(("b.example",), "a.example", "*.example", "*"), 1)
        self.assertEqual(self.find(("b",), "a.example", "*.example", "*"), 2)
        self.assertEqual(self.find(("a",), "a", "a"), 0)

    def test_several_patterns(self) -> None:
        """A line may have several patterns, any of which matches."""
        for key in ("a", "b", "x.c"):
            self.assertEqual(self.find((key,), "z", "a b *.c", "*"), 1)

    def test_several_keys(self) -> None:
        """A connection may have several keys; the line that comes first counts, not the key."""
        self.assertEqual(self.find(("a", "b"), "b", "a"), 0)
        self.assertEqual(self.find(("a", "b"), "c*", "b*", "a"), 1)

    def test_globs(self) -> None:
        """A star is any run of characters, dots too; the bare domain is not below itself."""
        self.assertEqual(self.find(("a.b.example.com",), "*.example.com"), 0)
        self.assertIsNone(self.find(("example.com",), "*.example.com"))
        self.assertIsNone(self.find(("aexample.com",), "*.example.com"))
        self.assertIsNone(self.find(("a.example.com.evil",), "*.example.com"))
        self.assertEqual(self.find(("w3.example",), "w?.example"), 0)

    def test_letters(self) -> None:
        """Patterns may be written in any letters, and with the dot of the root."""
        self.assertEqual(self.find(("a.example",), "A.Example."), 0)
        self.assertEqual(self.find(("a.example",), "*.EXAMPLE"), 0)

    def test_nothing(self) -> None:
        """Without lines, without keys and for an empty key there is nothing."""
        self.assertIsNone(self.find(("a",)))
        self.assertIsNone(self.find((), "*"))
        self.assertIsNone(self.find(("",), "*"))

    def test_addresses(self) -> None:
        """IP addresses are names too; IPv6 ones in any of their forms."""
        self.assertEqual(self.find(("192.0.2.1",), "192.0.2.1"), 0)
        self.assertEqual(self.find(("2001:db8::1",), "2001:DB8:0::1"), 0)
        self.assertEqual(self.find(("2001:db8::1",), "2001:db8:*"), 0)

    @given(
        st.lists(st.text("ab.*?", min_size=1, max_size=5).filter(lambda text: text.strip(".")), max_size=6),
        st.lists(st.from_regex(r"[ab.]{0,4}[ab]", fullmatch=True), max_size=3),
    )
    @settings(max_examples=200, deadline=None)
    def test_plain_search(self, patterns: list[str], keys: list[str]) -> None:
        """Table and globs say the same as trying every line in order."""
        expected = None
        for number, pattern in reversed(list(enumerate(patterns))):
            if any(fnmatch.fnmatchcase(key, pattern.removesuffix(".")) for key in keys):
                expected = number
        self.assertEqual(self.find(tuple(keys), *patterns), expected)


class DecideTests(SynchronousTestCase):
    """What becomes of the connection."""

    def test_decide(self) -> None:
        """A line routes or closes; without one the rule's own target stands."""
        routes = Routes([RouteClause(("a",), "there"), RouteClause(("b",), None)], check_host)
        self.assertEqual(routes.decide(("a",)), [Route("there"), DONE])
        self.assertIs(routes.decide(("c",)), DONE)
        close = routes.decide(("b",), b"no")
        assert isinstance(close, Close)
        self.assertEqual((close.reply, close.abort), (b"no", False))

    def test_repr(self) -> None:
        """It says how many there are."""
        self.assertEqual(repr(Routes(lines("a b", "*"), check_host)), "<Routes: 2 lines, 2 names, 1 globs>")


class CheckTests(SynchronousTestCase):
    """Patterns that can match nothing are errors."""

    def test_hosts(self) -> None:
        """A pattern that no host can match is refused, with the way out."""
        for pattern in (
            "a b",
            "a/b",
            "https://a",
            "a.example:443",
            "dead:80",
            "[::1]",
            "a\n",
            ".",
        ):
            error = self.assertRaises(ValueError, Routes, [RouteClause((pattern,), 0)], check_host)
            self.assertIn("can match no host", str(error))
            self.assertTrue(str(error).isprintable())

    def test_other_letters(self) -> None:
        """Letters beyond ASCII are compared as DNS has them; beside a star they are an error."""
        routes = Routes(lines("straße.example", "*.Bücher.example"), check_host)
        for name in ("xn--strae-oqa.example", "a.xn--bcher-kva.example"):
            self.assertIsNotNone(routes.find([name]), name)
        self.assertIsNone(routes.find(["strasse.example"]))
        error = self.assertRaises(ValueError, Routes, [RouteClause(("bü*.example",), 0)], check_host)
        self.assertIn("'bü*' cannot be part of a name in DNS", str(error))

    def test_length(self) -> None:
        """Empty and endless patterns are refused."""
        for pattern in ("", "a" * (MAX_PATTERN + 1)):
            error = self.assertRaises(ValueError, Routes, [RouteClause((pattern,), 0)], check_host)
            self.assertIn(str(MAX_PATTERN), str(error))
