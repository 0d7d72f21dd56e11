"""Tests of what is said about the mistakes that people make: one mistake, one error."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.mistakes import FILES, TEXTS, check, check_files, combine, errors_of, start

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
#: Files whose mistake makes every other line meaningless.
WHOLE = {"t04d-utf16", "t04f-latin1", "t21-haproxy", "t22-nginx", "t34-yaml"}
#: Files whose mistake is that they have no rule.
EMPTY = {"t26-empty", "t27-include", "t36-aclbefore"}


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
        names = sorted(path.name for path in FILES.iterdir())
        self.assertEqual(start(self.directory, names), errors_of(self.text, self.directory))

    def test_several_phases(self) -> None:
        """
        All mistakes of a file are told at once, by ``check`` and by a start, whichever phase finds them.

        A file that is in another form, or in another encoding, is refused for that alone.
        """
        made = combine(self.directory)
        told = errors_of(check_files(self.directory, made).stdout, self.directory)
        self.assertEqual(start(self.directory, made), told)
        alone = Counter(line.partition(".conf:")[0] for line in errors_of(self.text, self.directory))
        counts = Counter(line.partition(":")[0] for line in told)
        for name, phases in made.items():
            stem = name.removesuffix(".conf").split("+")[0]
            expected = 1 if stem in WHOLE else (0 if stem in EMPTY else alone[stem]) + len(phases)
            self.assertEqual(counts[name], expected, name)
