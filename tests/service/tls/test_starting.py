"""Tests of `portfwd.service.tls.starting`: what ``starts_tls`` of a factory says, at ``check``."""

from __future__ import annotations

from typing import Any

import trustme
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import Factory, Filter, Side
from portfwd.rules import parse
from portfwd.service.tls.starting import start_problem


class ProblemTests(SynchronousTestCase):
    """What cannot be."""

    def problem(self, starts_tls: Any, rule: str = ":2 -> 127.0.0.1:1") -> str:
        """What is wrong with a factory."""
        factory = Factory(lambda connection: Filter(), starts_tls=starts_tls)
        return start_problem(parse(rule, "f").rules[0], factory)

    def test_good(self) -> None:
        """Files that are there, and options that a rules file has."""
        path = self.mktemp()
        trustme.CA().issue_cert("db.example").private_key_and_cert_chain_pem.write_to_path(path)
        self.assertEqual(self.problem({Side.CLIENT: {"cert": path}, Side.UPSTREAM: {"verify": "off"}}), "")
        self.assertEqual(self.problem({}), "")

    def test_bad(self) -> None:
        """Each is said in a line."""
        both = {Side.CLIENT: {"cert": "/nowhere"}}
        for starts_tls, rule, words in (
            (both, ":2 -> 127.0.0.1:1", "/nowhere: No such file"),
            ({Side.CLIENT: {"nonsense": "1"}}, ":2 -> 127.0.0.1:1", "nonsense"),
            ({"client": {}}, ":2 -> 127.0.0.1:1", "must map sides"),
            (7, ":2 -> 127.0.0.1:1", "must map sides"),
            (both, "tls::2 cert=/x -> 127.0.0.1:1", "which is tls:"),
            ({Side.UPSTREAM: {}}, ":1 -> tls:h:1", "which is tls:"),
            (both, ":2 -> 127.0.0.1:1 relay=splice", "relay=splice cannot start TLS in an open connection"),
            (both, ":2/udp -> 127.0.0.1:1/udp", "datagrams"),
        ):
            self.assertIn(words, self.problem(starts_tls, rule))
