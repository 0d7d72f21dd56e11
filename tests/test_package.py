"""The top of the package: what `import portfwd` gives, and what it does not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import portfwd

ROOT = Path(__file__).resolve().parents[1]


class PackageTests(SynchronousTestCase):
    """Names and imports."""

    def test_names(self) -> None:
        """The version, `forward` and the classes of `portforward`, and nothing else by accident."""
        classes = ["Proxy", "ProxyClient", "ProxyClientFactory", "ProxyFactory", "ProxyServer"]
        self.assertEqual(portfwd.__all__, [*classes, "__version__", "forward"])
        for name in classes:
            self.assertEqual(getattr(portfwd, name).__name__, name)
        self.assertFalse(hasattr(portfwd, "ProxyManager"))
        self.assertRegex(portfwd.__version__, r"^\d+\.\d+\.\d+")

    def test_import_is_cheap(self) -> None:
        """Importing the package, or the tap, installs no reactor; the package alone imports no Twisted."""
        script = (
            "import sys, portfwd\n"
            "print('twisted' in sys.modules)\n"
            "import portfwd.service.tap\n"
            "print('twisted.internet.reactor' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout.split(), ["False", "False"])
