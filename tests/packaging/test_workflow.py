"""The workflow for what one machine cannot show: its commands are those of ``.ci/run`` and the README."""

from __future__ import annotations

import importlib.util
import os
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]


class WorkflowTests(SynchronousTestCase):
    """``.github/workflows/ci.yml``."""

    if find_spec("yaml") is None:
        skip = "needs pyyaml, of the extra 'test'"

    def setUp(self) -> None:
        import yaml

        jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
        self.jobs: dict[str, Any] = jobs

    def commands(self, job: str) -> list[str]:
        """What a job runs."""
        return [step["run"] for step in self.jobs[job]["steps"] if "run" in step]

    def test_scripts(self) -> None:
        """Every script of ``.ci`` that it names is there, and can be run."""
        scripts = [*self.commands("everything"), *self.jobs["package"]["strategy"]["matrix"]["command"]]
        named = {word for command in scripts for word in command.split() if word.startswith(".ci/")}
        self.assertEqual(named, {".ci/run", ".ci/package", ".ci/image"})
        for name in named:
            self.assertTrue(os.access(ROOT / name, os.X_OK), name)

    def test_tests(self) -> None:
        """The tests are run by the README's line."""
        line = (ROOT / "docs" / "listings" / "test.sh").read_text().strip()
        self.assertIn(line, self.commands("versions"))

    def test_versions(self) -> None:
        """Every version of Python that the package is said to work with is in the matrix."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        prefix = "Programming Language :: Python :: 3."
        said = {one[len(prefix) - 2 :] for one in project["classifiers"] if one.startswith(prefix)}
        self.assertEqual(said - set(self.jobs["versions"]["strategy"]["matrix"]["python"]), set())


class OldestTests(SynchronousTestCase):
    """``.ci/oldest.py``."""

    def setUp(self) -> None:
        spec = importlib.util.spec_from_file_location("oldest", ROOT / ".ci" / "oldest.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def test_own(self) -> None:
        """Each dependency of the package has a lowest version."""
        text = (ROOT / "pyproject.toml").read_text()
        pins = self.module.oldest(text)
        self.assertEqual(len(pins), len(tomllib.loads(text)["project"]["dependencies"]))

    def test_pins(self) -> None:
        """Extras are left out; what has no lowest version is refused."""
        text = '[project]\ndependencies = ["twisted[tls]>=24.7"]\n'
        self.assertEqual(self.module.oldest(text), ["twisted==24.7"])
        self.assertRaises(ValueError, self.module.oldest, text.replace(">=", "<"))
