"""Tests of `portfwd.upstreams.checks.registry`: the check behind a name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import ClassVar

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.options import OptionFiles, option, text
from portfwd.filters.registry import Origin, Unavailable
from portfwd.upstreams.checks.api import Check
from portfwd.upstreams.checks.registry import BUILT_IN, CheckRegistry
from portfwd.upstreams.checks.timing import Timing

FILES = OptionFiles(read=lambda path: "", absolute=lambda path: path)


@frozen
class Own(Check):
    """Somebody's check."""

    port: str = option(text, default="", help="Its own meaning.")


class Old(Check):
    """For another contract."""

    api_version: ClassVar[int] = 0


class Unclear(Check):
    """Nobody can find out its options."""

    __signature__ = 0


class RegistryTests(SynchronousTestCase):
    """Names."""

    def setUp(self) -> None:
        here = "tests.upstreams.checks.test_registry"
        self.registry = CheckRegistry(
            [
                Origin("own", f"{here}:Own", "a"),
                Origin("own", f"{here}:Own", "a"),
                Origin("twice", f"{here}:Own", "a"),
                Origin("twice", f"{here}:Old", "b"),
                Origin("old", f"{here}:Old", "b"),
                Origin("none", f"{here}:FILES", "b"),
                Origin("gone", "nowhere:X", "b"),
                Origin("unclear", f"{here}:Unclear", "b"),
            ]
        )

    def code(self, name: str) -> str:
        """Why a check cannot be had."""
        return self.assertRaises(Unavailable, self.registry.find, name).code

    def test_built_in(self) -> None:
        """The table of ours is that of pyproject.toml, and each of them can be had and says what it does."""
        project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
        self.assertEqual(project["project"]["entry-points"]["portfwd.checks"], dict(BUILT_IN))
        registry = CheckRegistry.installed()
        for origin in registry.origins():
            found = registry.find(origin.name)
            self.assertTrue(found.summary.endswith("."), origin.name)
            for one in found.options:
                self.assertTrue(one.help, one)

    def test_found(self) -> None:
        """By an entry point, or by its class; the same one twice is one."""
        self.assertIs(self.registry.find("own").kind, Own)
        path = "python:tests.upstreams.checks.test_registry.Own"
        self.assertIs(self.registry.find(path).kind, Own)
        self.assertEqual(repr(self.registry), "<CheckRegistry 6 checks>")

    def test_unavailable(self) -> None:
        """What cannot be had has a code and a way out."""
        self.assertEqual(self.code("onw"), "unknown-check")
        self.assertEqual(self.code("xyz"), "unknown-check")
        self.assertEqual(self.code("python:nowhere.X"), "unknown-check")
        for name in ("twice", "old", "none", "gone", "unclear"):
            self.assertEqual(self.code(name), "bad-check", name)

    def test_options(self) -> None:
        """Options of all checks are read beside its own, which come first; problems name their places."""
        found = self.registry.find("own")
        self.assertEqual(
            found.read((), [("port", "x"), ("inter", "5s"), ("rise", "1")], FILES),
            (Own(port="x"), Timing(inter=5.0, rise=1)),
        )
        problems = found.read((), [("port", "x"), ("nothing", "1"), ("inter", "5x")], FILES)
        assert isinstance(problems, list)
        self.assertEqual(sorted((one.option, one.in_value) for one in problems), [(1, False), (2, True)])
