"""Tests of ``portfwd options``."""

from __future__ import annotations

import json

from portfwd.rules.options import OPTIONS
from tests.cli.running import CommandTestCase


class OptionHelpTests(CommandTestCase):
    """What is said of the options of rules."""

    def test_all(self) -> None:
        """Every option is in the group of its place, in lines that fit a terminal."""
        code, out, err = self.run_main("options")
        self.assertEqual((code, err), (0, ""))
        words = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
        self.assertEqual(sorted(words), sorted(one.key for one in OPTIONS))
        self.assertLessEqual(max(map(len, out.splitlines())), 80)

    def test_one(self) -> None:
        """One option: its value, bounds, and what holds without it; where it exists twice, both."""
        _, out, _ = self.run_main("options", "idle")
        self.assertTrue(out.startswith("options of a rule, after '->' and its targets:\n  idle  "), out)
        self.assertIn("default:", " ".join(out.split()))
        _, out, _ = self.run_main("options", "alpn")
        self.assertEqual(out.count("options of a "), 2)
        self.assertIn("'target-alpn' in 'default' lines", " ".join(out.split()))

    def test_json(self) -> None:
        """The same for machines."""
        _, out, _ = self.run_main("options", "backlog", "--json")
        (found,) = json.loads(out)["options"]
        self.assertEqual((found["key"], found["scope"], found["needs"]), ("backlog", "listener", None))

    def test_unknown(self) -> None:
        """A name that is no option's gets the nearest one, or the command that lists them all."""
        code, _, err = self.run_main("options", "idel")
        self.assertEqual(
            (code, err), (1, "portfwd options: there is no option 'idel'; did you mean 'idle'?\n")
        )
        _, _, err = self.run_main("options", "zzzz")
        self.assertIn("'portfwd options' lists them", err)
