"""The rules file and its includes on a real file system."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.reading import CachedFiles
from portfwd.service.daemon.rule_files import MAX_LINKS, RuleFiles, resolved_names, rule_files


class RuleFilesTests(SynchronousTestCase):
    """What decides about the rules."""

    def setUp(self) -> None:
        self.directory = Path(os.path.realpath(self.mktemp()))
        self.directory.mkdir()
        self.path = self.directory / "rules.conf"

    def files(self) -> RuleFiles:
        """As they are now."""
        before = CachedFiles(DiskFiles())
        before.take(str(self.path))
        return rule_files(str(self.path), before)

    def test_digest(self) -> None:
        """Another text is another digest, in an include too; another time of change is not."""
        (self.directory / "d").mkdir()
        self.path.write_text("include d/*.conf\n")
        seen = [self.files().digest]
        for text in ("a", "b"):
            (self.directory / "d" / "x.conf").write_text(text)
            seen.append(self.files().digest)
        self.path.unlink()
        seen.append(self.files().digest)
        self.assertEqual(len(set(seen)), 4)
        self.path.write_text("x")
        before = self.files().digest
        os.utime(self.path, (1, 1))
        self.assertEqual(self.files().digest, before)

    def test_texts_are_apart(self) -> None:
        """What moves from the end of a file to the beginning of the next is a change."""
        self.path.write_text("include *.inc\n")
        digests = set()
        for one, two in (("ab", "c"), ("a", "bc")):
            (self.directory / "1.inc").write_text(one)
            (self.directory / "2.inc").write_text(two)
            digests.add(self.files().digest)
        self.assertEqual(len(digests), 2)

    def test_names(self) -> None:
        """The file, each directory above it, and whatever an include's pattern may mean concern the rules."""
        (self.directory / "d").mkdir()
        self.path.write_text("include d/*.conf\ninclude none/*.x\n")
        found = self.files()
        here = str(self.directory)
        self.assertTrue(found.concerns(here, "rules.conf"))
        self.assertTrue(found.concerns(here, "d"))
        self.assertTrue(found.concerns(here, "none"))
        self.assertTrue(found.concerns(f"{here}/d", "new.conf"))
        self.assertFalse(found.concerns(here, ".rules.conf.swp"))
        self.assertFalse(found.concerns(f"{here}/d", "new.conf~"))
        self.assertTrue(found.concerns(os.path.dirname(here), os.path.basename(here)))
        self.assertEqual(found.own, {here, f"{here}/d", f"{here}/none"})

    def test_pattern_of_directories(self) -> None:
        """A pattern may name directories."""
        for name in ("a", "b"):
            (self.directory / f"{name}.d").mkdir()
        self.path.write_text("include *.d/x\n")
        found = self.files()
        self.assertTrue(found.concerns(f"{self.directory}/a.d", "x"))
        self.assertTrue(found.concerns(f"{self.directory}/b.d", "x"))

    def test_odd_names(self) -> None:
        """A name with characters of patterns means itself."""
        self.path = self.directory / "r[1].conf"
        self.path.write_text("")
        found = self.files()
        self.assertTrue(found.concerns(str(self.directory), "r[1].conf"))
        self.assertFalse(found.concerns(str(self.directory), "r1.conf"))

    def test_config_map(self) -> None:
        """A ConfigMap's link that is replaced concerns the rules; the real directory is the file's own."""
        (self.directory / "..1").mkdir()
        (self.directory / "..1" / "rules.conf").write_text("")
        (self.directory / "..data").symlink_to("..1")
        self.path.symlink_to("..data/rules.conf")
        found = self.files()
        here = str(self.directory)
        self.assertEqual(found.names[here], {"rules.conf", "..data", "..1"})
        self.assertEqual(found.own, {f"{here}/..1"})


class StepsTests(SynchronousTestCase):
    """The way to a file."""

    def setUp(self) -> None:
        self.directory = Path(os.path.realpath(self.mktemp()))
        self.directory.mkdir()

    def steps(self, name: str) -> list[tuple[str, str]]:
        """The steps below the directory of the test."""
        here = str(self.directory)
        return [
            (os.path.relpath(directory, here), step)
            for directory, step in resolved_names(f"{here}/{name}")
            if directory.startswith(here)
        ]

    def test_plain(self) -> None:
        """A way without links, to something that need not be there."""
        self.assertEqual(self.steps("a/b"), [(".", "a"), ("a", "b")])
        self.assertEqual(next(resolved_names("/etc/x")), ("/", "etc"))

    def test_links(self) -> None:
        """Links lead on, relative, upwards or from the root."""
        (self.directory / "real").mkdir()
        (self.directory / "l1").symlink_to("l2")
        (self.directory / "l2").symlink_to(self.directory / "real")
        (self.directory / "real" / "up").symlink_to("../f")
        self.assertEqual(
            self.steps("l1/up"),
            [(".", "l1"), (".", "l2"), (".", "real"), ("real", "up"), (".", "f")],
        )

    def test_loop(self) -> None:
        """Links in a circle end."""
        (self.directory / "a").symlink_to("b")
        (self.directory / "b").symlink_to("a")
        self.assertEqual(len(self.steps("a")), MAX_LINKS + 1)
