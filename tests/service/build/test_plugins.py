"""Tests of the plug-ins that rules may name."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import registry
from portfwd.service.build.plugins import AvailablePlugins


class PluginsTests(SynchronousTestCase):
    """Plug-ins are looked for when a rule names one."""

    def test_once(self) -> None:
        """Each group of plug-ins is looked for once, and only if it is needed."""
        asked: list[Any] = []

        def found(group: str) -> tuple[()]:
            asked.append(group)
            return ()

        self.patch(registry, "entry_points", found)
        plugins = AvailablePlugins()
        self.assertEqual(asked, [])
        for _ in range(2):
            plugins.filters.find("sni")
            plugins.checks.find("tcp")
            plugins.filters.find("hexdump")
        self.assertEqual(asked, ["portfwd.filters", "portfwd.checks"])
