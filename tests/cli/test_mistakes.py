"""Tests of what is said about the mistakes that people make: one mistake, one error."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.mistakes import FILES, TEXTS, check, start

#: Files that are correct: blanks, line ends and a byte order mark that editors write.
HARMLESS = {"t03-tabs.conf", "t04-crlf.conf", "t04c-bom.conf"}
#: Files whose mistake is told as a warning, because the forwarder works until somebody acts on it.
WARNED = {"t09-expired.conf"}
#: Files with several mistakes.
MISTAKES = {
    "t15-cidr.conf": 9,
    "t17-units.conf": 6,
    "t18-wrongside.conf": 2,
    "t20-arrow.conf": 4,
    "t24-port.conf": 3,
    "t32-case.conf": 2,
    "t33-trailing.conf": 2,
    "t35-neg.conf": 3,
    "t37-underscore.conf": 2,
    "t40-udp2.conf": 2,
}


class MistakeTests(SynchronousTestCase):
    """Every file of ``mistakes`` through ``portfwd check``."""

    maxDiff = None

    def setUp(self) -> None:
        """Check all of them at once."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        done = check(self.directory)
        self.text = done.stdout
        self.assertEqual((done.returncode, done.stderr), (2, ""))

    def test_one_error_each(self) -> None:
        """A mistake gives exactly one error, and files with a harmless oddity load."""
        for path in sorted(FILES.iterdir()):
            errors = re.findall(rf"^{re.escape(path.name)}(?::\d+:\d+)?: error: ", self.text, re.MULTILINE)
            expected = 0 if path.name in HARMLESS | WARNED else MISTAKES.get(path.name, 1)
            self.assertEqual(len(errors), expected, path.name)

    def test_texts(self) -> None:
        """The errors name the place, the likely cause and the way out, in these words."""
        self.assertEqual(self.text, TEXTS.read_text())

    def test_start(self) -> None:
        """A start refuses the same files, with the same errors."""
        told = [line for line in self.text.splitlines() if re.match(r"\S+: error: ", line)]
        self.assertEqual(start(self.directory).splitlines(), told)
