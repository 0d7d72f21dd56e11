"""Tests of ``portfwd toxiproxy``: the line that its flags become."""

from __future__ import annotations

import os
from unittest import mock

from portfwd.rules import parse_rule
from portfwd.rules.admin_lines import ToxiproxySpec, toxiproxy_spec
from portfwd.values import InetAddress
from tests.cli.running import CommandTestCase


class ToxiproxyTests(CommandTestCase):
    """The flags of ``toxiproxy-server``."""

    def spec(self, *words: str) -> ToxiproxySpec:
        """What the line means."""
        with mock.patch("portfwd.service.foreground.run_in_foreground") as run:
            self.assertEqual(self.run_main("toxiproxy", *words), (0, "", ""))
        (((line,),), _) = run.call_args
        spec = toxiproxy_spec(parse_rule(line.removeprefix("--rule=")))
        assert spec is not None
        return spec

    def test_flags(self) -> None:
        """With one dash or two, with a blank or "="; what is not said is as in toxiproxy-server."""
        self.assertEqual(self.spec(), ToxiproxySpec(InetAddress("127.0.0.1", 8474)))
        config = os.path.abspath("my proxies.json")
        expected = ToxiproxySpec(InetAddress("0.0.0.0", 1), config, 7)
        one = ("-host", "0.0.0.0", "-port", "1", "-config", "my proxies.json", "-seed", "7")
        two = ("--host=0.0.0.0", "--port=1", "--config=my proxies.json", "-seed=7")
        for words in (one, two):
            self.assertEqual(self.spec(*words), expected)
        self.assertEqual(self.spec("-host", "::1").address, InetAddress("::1", 8474))
        self.assertEqual(self.spec("-host", "").address, InetAddress("0.0.0.0", 8474))

    def test_mistakes(self) -> None:
        """A wrong command line is one line."""
        for words, said in (
            (("-port", "x"), "expected a number from 0 to 65535"),
            (("-port", "65536"), "expected a number"),
            (("-seed", "-1"), "expected"),
            (("-host", "db.example"), "must be an address or localhost"),
            (("x",), "unrecognized arguments"),
        ):
            code, out, err = self.run_main("toxiproxy", *words)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), words)
            self.assertIn(said, err)
