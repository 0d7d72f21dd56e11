"""Tests for moving a log file out of the way."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.rotation import rotate


class RotationTests(SynchronousTestCase):
    """Files in a folder of their own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def files(self) -> dict[str, str]:
        """Names and contents."""
        return {path.name: path.read_text() for path in self.folder.iterdir()}

    def test_numbers(self) -> None:
        """Each file moves one further, whatever gaps there are; others stay where they are."""
        path = self.folder / "a.log"
        for name in ("a.log", "a.log.1", "a.log.9", "a.log.gz", "a.log.1.gz", "b.log.1"):
            (self.folder / name).write_text(name)
        rotate(str(path))
        moved = {"a.log.1": "a.log", "a.log.2": "a.log.1", "a.log.10": "a.log.9"}
        stayed = {name: name for name in ("a.log.gz", "a.log.1.gz", "b.log.1")}
        self.assertEqual(self.files(), {**moved, **stayed})

    def test_not_there(self) -> None:
        """A file that cannot be moved is an error."""
        self.assertRaises(OSError, rotate, str(self.folder / "a.log"))
