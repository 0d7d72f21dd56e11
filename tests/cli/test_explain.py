"""Tests of ``portfwd explain``."""

from __future__ import annotations

import json

from tests.cli.running import GOOD, CommandTestCase
from tests.cli.scripted import ControlTestCase


class ExplainTests(CommandTestCase):
    """The answer and the exit code."""

    def test_refused(self) -> None:
        """Rule and line that decide are named; a refusal is an answer too."""
        path = self.file(GOOD)
        self.assertEqual(
            self.run_main("explain", path, "10.1.0.1", ":8080"),
            (
                0,
                "10.1.0.1 to :8080\n"
                f"  rule     web, listens on :8080 ({path}:2)\n"
                f"  access   refused by 'deny 10.1.0.1' ({path}:4)\n",
                "",
            ),
        )

    def test_json(self) -> None:
        """JSON has the same, with the targets of an allowed client."""
        path = self.file(GOOD)
        code, out, _ = self.run_main("explain", path, "10.1.0.2", "web", "--json")
        answer = json.loads(out)
        self.assertEqual((code, answer["access"]["allowed"]), (0, True))
        self.assertEqual([target["address"] for target in answer["targets"]], ["10.0.0.5:80", "10.0.0.6:80"])
        self.assertEqual(answer["targets"][1]["line"], 2)

    def test_every_grammar(self) -> None:
        """Lines of rinetd are explained by the port they listen on."""
        path = self.file("0.0.0.0 80 10.0.0.5 8080\ndeny 1.2.3.*\n")
        code, out, _ = self.run_main("explain", path, "1.2.3.4", ":80")
        self.assertEqual(code, 0)
        self.assertIn(f"refused by 'deny 1.2.3.*' ({path}:2)", out)

    def test_not_understood(self) -> None:
        """A client that is no address is refused on standard error."""
        code, out, err = self.run_main("explain", self.file(GOOD), "example.com", ":8080")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("portfwd explain: 'example.com' is no address", err)

    def test_bad_file(self) -> None:
        """A file that is wrong or not there is not explained; its problems go to standard error."""
        for path, expected in ((self.file("x"), 2), (self.missing(), 1)):
            code, out, err = self.run_main("explain", path, "10.0.0.1", ":80")
            self.assertEqual((code, out), (expected, ""))
            self.assertIn(f"{path}:", err)


class RunningTests(ControlTestCase):
    """Without a file: a forwarder that runs."""

    def test_running(self) -> None:
        """It is asked by its socket; text is escaped, JSON is as of a file."""
        said = {"text": "10.0.0.1 to :80\n  no \x1b[31m rule", "explanation": {"rule": None}}
        self.forwarder.says("explain", said, said)
        self.assertEqual(
            self.run_there("explain", "10.0.0.1", ":80"), (0, "10.0.0.1 to :80\n  no \\x1b[31m rule\n", "")
        )
        code, out, _ = self.run_there("explain", "10.0.0.1", ":80", "--json")
        self.assertEqual((code, json.loads(out)), (0, {"rule": None}))
        self.assertEqual(self.forwarder.lines()[0], ("explain", ("10.0.0.1", ":80"), {}))
