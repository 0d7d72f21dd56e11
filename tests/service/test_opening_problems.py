"""What ``check`` says of sockets and files for operators, and that a start says the same."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import StartError
from portfwd.service.forwarder import Forwarder
from portfwd.service.opening_problems import opening_problems
from portfwd.service.operators import add_operators
from tests.service.worlds import rules

RULE = ":0 -> 127.0.0.1:9\n"


class OpeningTests(SynchronousTestCase):
    """Lines for operators that cannot be opened."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        os.mkdir(f"{self.directory}/private", 0o700)

    def check(self, line: str, said: str) -> None:
        """`check` refuses a line for `said`, and so does a start."""
        ruleset = rules(line + "\n" + RULE)
        problems = opening_problems(ruleset)
        self.assertEqual(len(problems), 1, line)
        self.assertIn(said, problems[0].message)
        self.assertEqual(problems[0].location.line, 1)
        parent = MultiService()
        with self.assertRaises(StartError):
            add_operators(parent, ruleset, Forwarder(cast(Any, reactor), ruleset), cast(Any, reactor))
            parent.privilegedStartService()

    def test_admin(self) -> None:
        """A control socket needs its directory."""
        self.check(f"admin unix:{self.directory}/none/a.sock", "there is no directory")

    def test_manhole(self) -> None:
        """A manhole needs its keys, which others may not write, and a directory of its own."""
        self.check(f"manhole ssh:127.0.0.1:2222 keys={self.directory}/none", "No such file")
        self.check(f"manhole ssh:127.0.0.1:2222 keys={self.directory}/private", "irectory")

    def test_good(self) -> None:
        """What can be opened is not complained about."""
        ruleset = rules(f"admin unix:{self.directory}/private/a.sock\nmetrics 127.0.0.1:9\n" + RULE)
        self.assertEqual(opening_problems(ruleset), ())
