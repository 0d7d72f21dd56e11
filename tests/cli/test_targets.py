"""Tests of ``portfwd targets`` and ``portfwd target``."""

from __future__ import annotations

import json

from portfwd.admin.answers import target_row
from tests.admin.fakes import TARGET
from tests.cli.scripted import ControlTestCase

ROW = target_row(TARGET)
BACKUP = {
    **ROW,
    "target": "b",
    "name": "git",
    "state": "up",
    "backup": True,
    "since": None,
    "cause": "",
    "checks": [],
}


class TargetsTests(ControlTestCase):
    """What is asked for, and what is printed."""

    def test_list(self) -> None:
        """All pages, one line a target."""
        pages = [
            {"start": 0, "more": True, "targets": [ROW]},
            {"start": 1, "more": False, "targets": [BACKUP]},
        ]
        self.forwarder.says("targets", *pages)
        code, out, _ = self.run_there("targets", "web")
        self.assertEqual(code, 0)
        self.assertEqual(
            [line.split() for line in out.splitlines()],
            [
                ["RULE", "TARGET", "STATE", "SINCE", "SHARE", "SESSIONS", "DIALS", "FAILED", "CHECK", "WHY"],
                [
                    "web",
                    "10.0.0.5:80",
                    "down",
                    "1m15s",
                    "0%",
                    "3",
                    "9",
                    "4",
                    "1.2",
                    "ms",
                    "check",
                    "tcp:",
                    "refused",
                ],
                ["web", "git", "b", "up", "-", "backup", "3", "9", "4", "-", "-"],
            ],
        )
        self.assertEqual(
            [(words, options["start"]) for _, words, options in self.forwarder.lines()],
            [(("web",), "0"), (("web",), "1")],
        )

    def test_problems(self) -> None:
        """A check that fails without an effect on the state is shown beside its cause."""
        check = {**ROW["checks"][0], "problem": "check agent: no answer within 2 s"}
        for cause, why in (("", ""), ("check agent: drain", "check agent: drain; ")):
            row = {**ROW, "cause": cause, "checks": [check]}
            self.forwarder.says("targets", {"start": 0, "more": False, "targets": [row]})
            line = self.run_there("targets")[1].splitlines()[1]
            self.assertTrue(line.endswith(f" failed  {why}now check agent: no answer within 2 s"), line)

    def test_json(self) -> None:
        """For programs, one object."""
        self.forwarder.says("targets", {"start": 0, "more": False, "targets": [ROW]})
        self.assertEqual(json.loads(self.run_there("targets", "--json")[1]), {"targets": [ROW]})

    def test_order(self) -> None:
        """It says for which ports it holds."""
        self.forwarder.says("target", {"rules": ["web:80", "web:81"]})
        code, out, _ = self.run_there("target", "web", "10.0.0.5:80", "drain")
        self.assertEqual(
            (code, out), (0, "web:80: 10.0.0.5:80 is draining\nweb:81: 10.0.0.5:80 is draining\n")
        )
        self.assertEqual(self.forwarder.lines(), [("target", ("web", "10.0.0.5:80", "drain"), {})])
