"""Tests of `portfwd.service.toxiproxy.proxy_address`: addresses that clients write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse_rule
from portfwd.service.toxiproxy.proxy_address import ProxyAddress


class PlaceTests(SynchronousTestCase):
    """Text to values, and back."""

    def test_read(self) -> None:
        """What Go's ``net.Listen`` takes, as toxiproxy tells it and as a rule has it."""
        for text, told, words in (
            ("localhost:0", "127.0.0.1:0", "127.0.0.1:0"),
            (":8080", "[::]:8080", ":8080"),
            ("[::]:8080", "[::]:8080", ":8080"),
            ("0.0.0.0:80", "0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:65535", "[::1]:65535", "[::1]:65535"),
            ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1", "[fe80::1%eth0]:1"),
            ("db_1.example-net:5432", "db_1.example-net:5432", "db_1.example-net:5432"),
        ):
            place = ProxyAddress.read(text).here
            self.assertEqual((str(place), place.words), (told, words))
        self.assertEqual(str(ProxyAddress.read("localhost:1")), "localhost:1")

    def test_refused(self) -> None:
        """What is no address is refused."""
        for text in ("", "80", "host", "host:", "host:http", "a b:80", "a:1 -> b:2", "host:65536", "h:123456",
                     "[1:2]:3", "[::1:80", "::1:80", "unix:/run/x", "a:80\n", "a:٨٠"):  # fmt: skip
            self.assertRaises(ValueError, ProxyAddress.read, text)

    @given(st.text(max_size=30) | st.from_regex(r"[\[\]a-z0-9:.%_-]{1,12}:[0-9]{1,5}", fullmatch=True))
    def test_anything(self, text: str) -> None:
        """Whatever is taken is one address for the rules' reader as well."""
        try:
            place = ProxyAddress.read(text)
        except ValueError:
            return
        if place.host and place.port:
            try:
                (rule,) = parse_rule(f"x: :1 -> {place.words}").rules
            except RulesError:
                return  # a host that rules do not take
            (target,) = rule.targets
            assert target.ports is not None
            self.assertEqual((rule.name, target.ports.first, len(target.ports)), ("x", place.port, 1))
