"""Tests of ``portfwd checks`` and ``portfwd help check``."""

from __future__ import annotations

import json

from portfwd.filters.registry import Origin
from portfwd.upstreams.checks.registry import BUILT_IN, CheckRegistry
from tests.cli.running import CommandTestCase


class ChecksTests(CommandTestCase):
    """What is listed."""

    def test_list(self) -> None:
        """Every check with its package and what it does."""
        code, out, err = self.run_main("checks")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual([line.split()[0] for line in out.splitlines()], ["NAME", *sorted(BUILT_IN)])

    def test_broken(self) -> None:
        """One that cannot be used is listed with the reason, for programs too."""
        self.patch(CheckRegistry, "installed", lambda: CheckRegistry([Origin("x", "nowhere:X", "p", "1")]))
        code, out, err = self.run_main("checks", "--json")
        (listed,) = json.loads(out)["checks"]
        self.assertEqual((code, err, listed["name"], listed["summary"]), (1, "", "x", None))
        self.assertIn("nowhere", listed["error"])
        self.assertIn("portfwd checks: ", self.run_main("checks")[2])


class HelpTests(CommandTestCase):
    """What is said of a check."""

    def test_text(self) -> None:
        """Its own options, then those of all checks, and an example."""
        code, out, _ = self.run_main("help", "check", "http")
        self.assertEqual(code, 0)
        self.assertTrue(out.startswith("check http: Requests a path by HTTP"))
        self.assertLess(out.index("  path "), out.index("  inter "))
        self.assertTrue(out.endswith("example:\n  check http path=/health\n"))
        self.assertTrue(
            self.run_main("help", "check", "send")[1].endswith(
                'example:\n  check send "PING\\\\r\\\\n" expect "+PONG"\n'
            )
        )

    def test_json(self) -> None:
        """For programs; a check takes no routes."""
        found = json.loads(self.run_main("help", "check", "tcp", "--json")[1])
        self.assertEqual((found["name"], "takes_routes" in found), ("tcp", False))

    def test_unavailable(self) -> None:
        """One that is not there is told as a rules file would be."""
        code, _, err = self.run_main("help", "check", "htp")
        self.assertEqual(code, 1)
        self.assertIn("there is no check called 'htp'\n    did you mean 'http'?", err)
