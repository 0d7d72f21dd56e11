"""``--watch``: real changes of a rules file, under a forwarder that runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.integration.case import ForwarderCase
from tests.integration.control_case import COMMAND, environment
from tests.integration.forwarder import Forwarder, wait_until


class WatchTests(ForwarderCase):
    """A file and its directory."""

    def count(self, forwarder: Forwarder, words: str, expected: int) -> None:
        """Wait until the log has `words` so often."""
        wait_until(lambda: forwarder.log.count(words) >= expected, 60, lambda: forwarder.log)
        self.assertEqual(forwarder.log.count(words), expected, forwarder.log)

    def test_editor(self) -> None:
        """An editor's rename is applied; a bad file is refused once, and a good one is applied after it."""
        forwarder = self.forwarder("a: 127.0.0.1:0 -> 127.0.0.1:9\n", ["--watch"])
        path = forwarder.directory / "rules.conf"
        good = path.read_text()
        for text, words in (
            (f"{good}b: 127.0.0.1:0 -> 127.0.0.1:9\n", "1 added, 1 unchanged"),
            (f"{good}b: 127.0.0.1:0 - 127.0.0.1:9\n", "refused, nothing was changed"),
            (good, "1 removed, 1 unchanged"),
        ):
            beside = path.with_suffix(".new")
            beside.write_text(text)
            os.rename(beside, path)
            self.count(forwarder, words, 1)
        self.count(forwarder, "the rules file has changed", 3)
        self.assertEqual(len(forwarder.addresses("a")), 1)

    def test_config_map(self) -> None:
        """A ConfigMap's directory, switched as the kubelet switches it."""
        volume = self.directory / "volume"
        volume.mkdir()
        self.publish(volume, 1, "a: 127.0.0.1:0 -> 127.0.0.1:9\n")
        (volume / "rules.conf").symlink_to("..data/rules.conf")
        forwarder = self.forwarder(None, ["-c", str(volume / "rules.conf"), "--watch"])
        self.publish(volume, 2, "a: 127.0.0.1:0 -> 127.0.0.1:9\nb: 127.0.0.1:0 -> 127.0.0.1:9\n")
        self.count(forwarder, "1 added", 1)
        self.publish(volume, 3, "b: 127.0.0.1:0 -> 127.0.0.1:9\n")
        self.count(forwarder, "1 removed", 1)

    def publish(self, volume: Path, number: int, text: str) -> None:
        """As the kubelet does: a new directory, a link to it renamed over ``..data``; the old one goes."""
        (volume / f"..{number}").mkdir()
        (volume / f"..{number}" / "rules.conf").write_text(text)
        (volume / "..data_tmp").symlink_to(f"..{number}")
        os.rename(volume / "..data_tmp", volume / "..data")
        old = volume / f"..{number - 1}"
        if old.exists():
            (old / "rules.conf").unlink()
            old.rmdir()

    def test_no_file(self) -> None:
        """Rules of the command line cannot be watched."""
        done = subprocess.run(
            [*COMMAND, "run", "--watch", "--rule", ":0 -> a:1"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
