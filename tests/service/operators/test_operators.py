"""Tests of the services that the lines ``admin`` and ``manhole`` ask for."""

from __future__ import annotations

from twisted.application.service import MultiService

from portfwd.admin.shell_keys import new_host_key, public_line
from portfwd.service.operators.changes import ChangeWatch
from portfwd.service.operators.control import ControlSockets
from portfwd.service.operators.operators import add_operators
from portfwd.service.operators.shells import Shells
from tests.service.contexts import rules
from tests.service.operated import RULES, OperatedTestCase


class OperatorsTests(OperatedTestCase):
    """Services, made from lines."""

    def services(self, lines: str) -> list[object]:
        """What a ruleset with these lines gets."""
        parent = MultiService()
        text = f"{lines}\n{RULES.format(target='127.0.0.1:9')}"
        add_operators(parent, rules(text), self.forwarder, self.reactor)
        return list(parent)

    def test_nothing(self) -> None:
        """Without such lines there is nothing."""
        self.assertEqual(self.services(""), [])

    def test_control(self) -> None:
        """One service has all control sockets."""
        watch, found = self.services("admin unix:a\nadmin unix:b level=read")
        self.assertIsInstance(watch, ChangeWatch)
        self.assertIsInstance(found, ControlSockets)

    def test_shells(self) -> None:
        """One has all manholes."""
        keys = self.directory / "keys"
        keys.write_text(public_line(new_host_key()))
        keys.chmod(0o600)
        found, _ = self.services(f"manhole ssh:127.0.0.1:2 keys={keys}")
        self.assertIsInstance(found, Shells)
