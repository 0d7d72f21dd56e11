"""
The example of a filter in a package of its own: installed beside portfwd it is found, and its tests pass.

The environments are those of `tests.packaging.test_install`.
"""

from __future__ import annotations

import json
from importlib.util import find_spec

from twisted.trial.unittest import TestCase

from portfwd.filters.registry import BUILT_IN, GROUP
from tests.packaging.test_install import NEEDED, Workshop, run

#: What the metadata of an environment says of filters.
ENTRY_POINTS = (
    "import json; from importlib.metadata import entry_points; "
    f"print(json.dumps([[one.dist.name, one.name, one.value] for one in entry_points(group={GROUP!r})]))"
)


class FilterPackageTests(TestCase):
    """What its author and its user get."""

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}"

    def setUp(self) -> None:
        self.workshop = Workshop()
        self.addCleanup(self.workshop.close)

    def test_installed(self) -> None:
        """Its name works in rules files as a built-in one does, and its own tests pass."""
        package = self.workshop.source / "examples" / "filter-package"
        environment = self.workshop.environment("filters")
        self.workshop.install(environment, self.workshop.build("--wheel"), package)
        python, portfwd = environment / "bin" / "python", environment / "bin" / "portfwd"
        found = json.loads(run(portfwd, "filters", "--json", cwd=self.workshop.elsewhere))["filters"]
        self.assertEqual(
            [one for one in found if one["package"] == "portfwd-ssh-only"],
            [
                {
                    "name": "ssh-only",
                    "package": "portfwd-ssh-only",
                    "version": "1.0",
                    "path": "ssh_only:SSHOnly",
                    "summary": "Refuses clients that do not speak SSH.",
                    "error": None,
                }
            ],
        )
        self.assertEqual({one["name"] for one in found}, {*BUILT_IN, "ssh-only"})
        told = run(portfwd, "help", "filter", "ssh-only", cwd=self.workshop.elsewhere)
        self.assertIn("of portfwd-ssh-only 1.0", told)
        self.assertIn("  reply  ", told)
        points = json.loads(run(python, "-c", ENTRY_POINTS, cwd=self.workshop.elsewhere))
        self.assertEqual({name: path for package, name, path in points if package == "portfwd"}, BUILT_IN)
        run(python, "-m", "twisted.trial", "test_ssh_only", cwd=package)
