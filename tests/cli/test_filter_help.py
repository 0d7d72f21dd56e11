"""Tests of ``portfwd help filter``."""

from __future__ import annotations

import json

from portfwd.filters.registry import BUILT_IN, Registry
from portfwd.rules import parse
from portfwd.service.build.filters import filter_problems
from tests.cli.running import CommandTestCase
from tests.rules.golden import FILTERS


class HelpTests(CommandTestCase):
    """What is said of a filter."""

    def setUp(self) -> None:
        self.patch(Registry, "installed", lambda: FILTERS)

    def test_text(self) -> None:
        """Summary, origin, every option with its help, unit and default, and an example."""
        code, out, err = self.run_main("help", "filter", "router")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out,
            """\
filter router: Chooses.
from tests.filters.plugins:ROUTER of some-filters 1.2
It chooses a target by the rule's 'route' lines.

options:
  mode   Which one is taken; first | last; the key may be omitted; required
  trust  Who may choose; networks; required
  wait   How long it may take; duration; default: 3s
  names  A file of names; file
  also   More; a | b; may be repeated

example:
  filter router last trust=10.0.0.0/8
""",
        )

    def test_without_options(self) -> None:
        """A filter without options has no such part."""
        code, out, _ = self.run_main("help", "filter", "bare")
        self.assertEqual(code, 0)
        self.assertNotIn("options:", out)
        self.assertTrue(out.endswith("example:\n  filter bare\n"))

    def test_python(self) -> None:
        """A class that is not packaged is explained by its arguments; long lines are broken."""
        code, out, _ = self.run_main("help", "filter", "python:tests.filters.plugins.Wordy")
        self.assertEqual(code, 0)
        self.assertIn("  limit  ", out)
        self.assertIn("\n         ", out)
        self.assertLessEqual(max(len(line) for line in out.splitlines()), 80)

    def test_unavailable(self) -> None:
        """A filter that is not there is told as a rules file would be, with exit code 1."""
        code, out, err = self.run_main("help", "filter", "ruoter")
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(
            err, "portfwd help: there is no filter called 'ruoter'\n    did you mean 'router'?\n"
        )
        code, _, err = self.run_main("help", "filter", "python:tests.filters.plugins.zzzzzzz")
        self.assertEqual((code, err.count("\n")), (1, 1))

    def test_json(self) -> None:
        """JSON has the same."""
        code, out, _ = self.run_main("help", "filter", "--json", "router")
        found = json.loads(out)
        self.assertEqual((code, found["name"], found["takes_routes"]), (0, "router", True))
        self.assertEqual(
            found["options"][2],
            {
                "key": "wait",
                "value": "duration",
                "help": "How long it may take.",
                "needed": False,
                "default": "3s",
                "positional": False,
                "repeated": False,
            },
        )
        self.assertEqual(found["example"], "filter router last trust=10.0.0.0/8")


class BuiltInTests(CommandTestCase):
    """portfwd's own filters."""

    def test_examples(self) -> None:
        """The example of each is a clause that a rule can have, but for files that are not there."""
        for name in BUILT_IN:
            _, out, _ = self.run_main("help", "filter", name)
            clause = out.splitlines()[-1]
            rule = f":1 -> a:1\n{clause}\n"
            wrong = [
                problem.message
                for problem in filter_problems(parse(rule, "f"))
                if "cannot read" not in problem.message
            ]
            self.assertEqual(wrong, [], clause)
