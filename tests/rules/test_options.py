"""Tests of `portfwd.rules.options` and `portfwd.rules.readers`: one table, values, bounds."""

from __future__ import annotations

from attrs import fields
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import readers
from portfwd.rules.model import Keepalive, ListenOptions, OnDeny, Options
from portfwd.rules.options import BY_NAME, LISTENER, OPTIONS, RULE, TARGET, Scope
from portfwd.rules.tokens import WordFault


class TableTests(SynchronousTestCase):
    """The table and the model say the same."""

    def test_complete(self) -> None:
        """Every field of the model has its option, every option its field."""
        listener = {option.field for option in OPTIONS if option.scope is Scope.LISTENER}
        rule = {option.field for option in OPTIONS if option.scope is not Scope.LISTENER}
        self.assertEqual(listener, {field.name for field in fields(ListenOptions)})
        self.assertEqual(rule, {field.name for field in fields(Options)})

    def test_unique(self) -> None:
        """Names are unique, and keys on their side of ``->``."""
        self.assertEqual(len(BY_NAME), len(OPTIONS))
        self.assertEqual(len(LISTENER) + len(RULE), len(OPTIONS))
        self.assertTrue(set(TARGET) < set(RULE))

    def test_defaults_are_in_bounds(self) -> None:
        """Writing a default out reads back as the default."""
        for option in OPTIONS:
            self.assertEqual(option.value(option.text(option.initial)), option.initial, option.name)

    def test_undone(self) -> None:
        """An option without a value has a word for that, so that a default can be undone."""
        for option in OPTIONS:
            if option.initial in (None, ()):
                assert option.unset is not None
                self.assertEqual(option.value(option.unset), option.initial)

    def test_undo(self) -> None:
        """Each has a word that stands for its value without the option."""
        for option in OPTIONS:
            self.assertEqual(option.value(option.undo), option.initial, option.name)

    def test_for_people(self) -> None:
        """Each has help, a unit and a default to print, and bounds where its values are quantities."""
        for option in OPTIONS:
            self.assertTrue(option.about and option.unit and option.default, option.name)
            if option.unit in ("duration", "size", "size/s", "number", "rate", "octal"):
                self.assertTrue(option.bounds, option.name)

    def test_bounds(self) -> None:
        """What is told as the least and the most is taken, and what is beyond it is not."""
        for option in OPTIONS:
            if option.unit not in ("duration", "size", "size/s", "number"):
                continue
            least, most = option.bounds.split(" to ")
            self.assertLess(option.value(least), option.value(most), option.name)
            self.assertRaises(WordFault, option.value, f"9{most}")
            if option.value(least):
                self.assertRaises(WordFault, option.value, "0")


class ValueTests(SynchronousTestCase):
    """Texts of values."""

    def good(self, name: str, *pairs: tuple[str, object]) -> None:
        """Expect each text to read as a value that writes and reads back."""
        option = BY_NAME[name]
        for text, value in pairs:
            self.assertEqual(option.value(text), value, text)
            self.assertEqual(option.value(option.text(value)), value, text)

    def bad(self, name: str, code: str, *texts: str) -> None:
        """Expect each text to be a fault."""
        for text in texts:
            fault = self.assertRaises(WordFault, BY_NAME[name].value, text)
            self.assertEqual(fault.code, code, text)

    def test_duration(self) -> None:
        """Units, sums and plain seconds, within bounds."""
        self.good("idle", ("30s", 30.0), ("1h30m", 5400.0), ("250ms", 0.25), ("90", 90.0), ("off", None))
        self.bad("idle", "bad-value", "", "5x", "m", "-5s", "1e3", "nan", "5 s", "∞")
        self.bad("idle", "out-of-bounds", "0", "99ms")
        self.bad("idle", "bad-value", "11000d", "9" * 5000)
        self.good("linger", ("0", 0.0))
        self.bad("connect-timeout", "out-of-bounds", "1h1s", "1ms")

    def test_size(self) -> None:
        """Binary and decimal units, whole bytes, within bounds."""
        self.good(
            "buffer", ("64KiB", 65536), ("1MiB", 1048576), ("1024", 1024), ("1.5KiB", 1536), ("16MiB", 2**24)
        )
        self.bad("buffer", "bad-value", "", "64kib", "1.3", "-1", "9" * 5000)
        self.bad("buffer", "out-of-bounds", "1023", "16777217", "0")

    def test_number(self) -> None:
        """Whole numbers only."""
        self.good("max-conns", ("1", 1), ("1048576", 1048576), ("off", None))
        self.bad("max-conns", "bad-value", "", "1.5", "-1", "٣", "9" * 5000)
        self.bad("max-conns", "out-of-bounds", "0", "1048577")

    def test_rate(self) -> None:
        """A second, a minute or an hour."""
        self.good("rate", ("200/s", 200.0), ("30/m", 0.5), ("36/h", 0.01), ("1.25", 1.25))
        self.bad("rate", "bad-value", "", "fast", "1/d", "-1", "1e9")
        self.bad("rate", "out-of-bounds", "0", "1000001", "9" * 5000)

    def test_bandwidth(self) -> None:
        """Bytes a second, in the units of sizes; nothing a second would be no connection."""
        for name, unset in (
            ("bandwidth", "off"),
            ("bandwidth-up", "auto"),
            ("bandwidth-down", "auto"),
            ("bandwidth-per-source", "off"),
            ("bandwidth-per-connection", "off"),
        ):
            self.good(name, ("10MiB/s", 10485760), ("1500", 1500), ("1KiB/s", 1024), (unset, None))
            self.bad(name, "bad-value", "10MiB/m", "", "fast")
            self.bad(name, "out-of-bounds", "0", "1023/s", "2TiB/s")

    @given(st.integers(1, 10**9))
    def test_any_rate(self, number: int) -> None:
        """Whatever rate was read is written without losing any of it."""
        option = BY_NAME["rate"]
        value = option.value(f"{number % 997}.{number:09}/m")
        self.assertEqual(option.value(option.text(value)), value)

    def test_words(self) -> None:
        """Words of a list, with the nearest suggested."""
        self.good("on-deny", ("fin", OnDeny.FIN), ("rst", OnDeny.RST))
        self.good("verify-client", ("required", "required"), ("auto", None))
        self.good("verify-client", ("require", "required"), ("request", "optional"))
        self.good("nodelay", ("on", True), ("off", False))
        self.bad("nodelay", "bad-value", "yes", "", "ON")
        fault = self.assertRaises(WordFault, BY_NAME["verify-client"].value, "requried")
        self.assertEqual(
            (fault.message, fault.hint), ("expected required or optional", "did you mean 'required'?")
        )
        self.assertEqual(
            self.assertRaises(WordFault, readers.word("only").read, "x").message, "expected only"
        )

    def test_keepalive(self) -> None:
        """On, off, or three numbers of which some may be left to the system."""
        self.good(
            "keepalive",
            ("on", Keepalive()),
            ("off", Keepalive(False)),
            ("60:10:5", Keepalive(True, 60, 10, 5)),
            ("60s:1m:5", Keepalive(True, 60, 60, 5)),
            ("::3", Keepalive(True, None, None, 3)),
        )
        self.bad("keepalive", "bad-value", "", "60", "::", "1:2:3:4", "1.5s::", "x::")
        self.bad("keepalive", "out-of-bounds", "0::", "32768::", "::128", "10h::")

    def test_mode(self) -> None:
        """Octal with or without a zero before it; no set-uid bits."""
        self.good("mode", ("0660", 0o660), ("660", 0o660), ("0o660", 0o660), ("0", 0), ("default", None))
        self.bad("mode", "bad-value", "", "0888", "rw", "-1", "777777")
        self.bad("mode", "out-of-bounds", "4755", "1000")

    def test_addresses(self) -> None:
        """A source is an address, a server's name a host."""
        self.good(
            "src", ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("::1", "::1"), ("0", None), ("any", None)
        )
        self.bad("src", "bad-value", "", "example.com", "10.0.0.1:80", "10.0.0")
        self.good("server-name", ("example.com", "example.com"), ("::1", "::1"), ("auto", None))
        self.bad("server-name", "bad-value", "", "*", "-x-", "10.0.0.300")

    def test_text(self) -> None:
        """Anything but nothing; names of protocols by RFC 7301's bounds."""
        self.good("ca", ("a b", "a b"), ("system", None))
        self.bad("ca", "bad-value", "")
        self.bad("ciphers", "bad-value", "")
        self.good("alpn", ("h2,http/1.1", ("h2", "http/1.1")), ("none", ()))
        self.bad("alpn", "bad-value", "", "h2,", "x" * 256)
