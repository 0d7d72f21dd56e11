"""The types of the package, as programs see them that use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
[mypy]
strict = true
untyped_calls_exclude = twisted
{plugins}
[mypy-setuptools.*]
ignore_missing_imports = true
"""


class MypyTests(SynchronousTestCase):
    """Listings and examples, checked strictly; functions of Twisted's that have no types may be called."""

    plugins: ClassVar[str] = ""

    def test_listings(self) -> None:
        """Each listing and each file of the example package is free of errors."""
        if find_spec("mypy") is None or (self.plugins and find_spec("mypy_zope") is None):
            raise SkipTest("mypy and mypy-zope come with the extra 'lint'")
        place = Path(self.mktemp())
        place.mkdir()
        (place / "mypy.ini").write_text(CONFIG.format(plugins=self.plugins))
        for directory in ("docs/listings", "examples/filter-package"):
            for path in (ROOT / directory).glob("*.py"):
                shutil.copy(path, place / path.name.replace("-", "_"))
        files = sorted(path.name for path in place.glob("*.py"))
        self.assertNotEqual(files, [])
        command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "--cache-dir=cache", *files]
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={"MYPYPATH": str(ROOT)},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class MypyZopeTests(MypyTests):
    """The same with mypy-zope, which knows the interfaces of Twisted's classes."""

    plugins = "plugins = mypy_zope:plugin"
