"""Tests of `portfwd.rules.settings`: the options of a line, and what is wrong with them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.addresses import Role
from portfwd.rules.options import BY_NAME, RULE
from portfwd.rules.reading import Reading
from portfwd.rules.settings import ELSEWHERE, read_settings
from portfwd.rules.tokens import Line


class SettingsTests(SynchronousTestCase):
    """Options by the side they stand on."""

    def read(self, text: str, side: Role | None, rule: bool = False) -> tuple[dict[str, object], list[str]]:
        """Values by name, and the codes of problems."""
        reading = Reading(None)
        line = Line("f", 1, text)
        found = read_settings(reading, line, line.words(), side, rule)
        return {name: value for name, (value, _) in found.items()}, [
            p.code for p in reading.findings.sorted()
        ]

    def test_sides(self) -> None:
        """Each side takes its own options and sends the others' where they belong."""
        for text, side, rule, values, codes in (
            ("backlog=5 idle=5m", Role.LISTEN, False, {"backlog": 5}, ["misplaced-option"]),
            ("backlog=5 idle=5m", Role.TARGET, True, {"idle": 300.0}, ["misplaced-option"]),
            ("idle=5m verify=off", Role.TARGET, False, {"verify": False}, ["misplaced-option"]),
            ("idle=5m backlog=5", None, False, {"idle": 300.0, "backlog": 5}, []),
            ("target-alpn=h2", None, False, {"target-alpn": ("h2",)}, []),
            ("target-alpn=h2", Role.TARGET, True, {}, ["unknown-option"]),
            ("alpn=h2", Role.TARGET, True, {"target-alpn": ("h2",)}, []),
            ("alpn=h2", Role.LISTEN, False, {"alpn": ("h2",)}, []),
            ("ilde=5m", None, False, {}, ["unknown-option"]),
        ):  # fmt: skip
            self.assertEqual(self.read(text, side, rule), (values, codes), text)

    def test_elsewhere(self) -> None:
        """An option of another program is answered with what to write here, with or without a value."""
        for spelling, hint in (
            ("timeout=5", "write idle= for silent sessions, connect-timeout= for dials"),
            ("proxy_timeout=5s", "write idle="),
            ("ssl=on", "TLS is written before the address: tls:HOST:PORT"),
            ("send-proxy", "write a line 'filter proxy-out' beneath the rule"),
            ("backup", "write backup=VALUE"),
            ("nosuch", "options are written KEY=VALUE"),
        ):
            reading = Reading(None)
            line = Line("f", 1, "idle=5m " + spelling)
            read_settings(reading, line, line.words(), Role.TARGET, True)
            self.assertEqual([one.hint for one in reading.findings.sorted()], [hint], spelling)
        self.assertFalse(set(ELSEWHERE) & (set(BY_NAME) | set(RULE)), "an option that there is")

    def test_twice(self) -> None:
        """The first of two counts, the second is a problem."""
        self.assertEqual(
            self.read("idle=5m idle=6m", Role.TARGET, True), ({"idle": 300.0}, ["duplicate-option"])
        )

    def test_quoted(self) -> None:
        """A value in quotes is the same value."""
        self.assertEqual(
            self.read('idle="5m" ca="a b"', Role.TARGET, True), ({"idle": 300.0, "ca": "a b"}, [])
        )
