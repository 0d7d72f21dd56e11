"""Tests of ``portfwd filters``."""

from __future__ import annotations

import json

from portfwd.cli.plugin_list import list_plugins
from portfwd.filters.registry import Origin, Registry
from tests.cli.running import CommandTestCase
from tests.rules.golden import FILTERS

HERE = "tests.filters.plugins"
SOME = Registry(
    [Origin("bare", f"{HERE}:Bare", "some-filters", "1.2"), Origin("router", f"{HERE}:ROUTER", "portfwd")]
)


class FiltersTests(CommandTestCase):
    """What is listed."""

    def install(self, registry: Registry) -> None:
        """Let these be the filters that are installed."""
        self.patch(Registry, "installed", lambda: registry)

    def test_table(self) -> None:
        """A line each, by name: who brings it, and what it does."""
        self.install(SOME)
        code, out, err = self.run_main("filters")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out.splitlines(),
            [
                "NAME    PACKAGE       SUMMARY",
                "bare    some-filters  Passes everything, and says so. It has no options.",
                "router  portfwd       Chooses.",
            ],
        )

    def test_broken(self) -> None:
        """What no rule can use is listed too, with the reason, and makes the exit code 1."""
        self.install(FILTERS)
        code, out, err = self.run_main("filters")
        self.assertEqual(code, 1)
        self.assertIn("\nbroken   some-filters\n", out)
        self.assertIn("portfwd filters: the filter 'broken'", err)
        self.assertEqual(err.count("several packages have a filter called 'twice'"), 1)

    def test_json(self) -> None:
        """JSON has an object for each."""
        self.install(FILTERS)
        code, out, _ = self.run_main("filters", "--json")
        listed = {one["name"]: one for one in json.loads(out)["filters"]}
        self.assertEqual(code, 1)
        self.assertEqual(
            listed["router"],
            {
                "name": "router",
                "package": "some-filters",
                "version": "1.2",
                "path": f"{HERE}:ROUTER",
                "summary": "Chooses.",
                "error": None,
            },
        )
        self.assertIsNone(listed["broken"]["summary"])
        self.assertIn("no_such_library", listed["broken"]["error"])

    def test_installed(self) -> None:
        """Nothing is wrong with what portfwd itself brings."""
        own = [one for one in list_plugins(Registry.installed()) if one.origin.package == "portfwd"]
        self.assertEqual([one.error for one in own if one.error], [])
