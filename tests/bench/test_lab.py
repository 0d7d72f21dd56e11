"""Tests for `bench.lab`."""

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from bench.lab import Lab, Place, left_behind, namespace_name, sweep
from bench.processes import LabError


class LeftBehindTests(SynchronousTestCase):
    """What a killed lab left."""

    def test_ours_and_dead(self) -> None:
        """Only names that a lab made count, and only if that lab is gone."""
        names = [
            namespace_name(10, Place.CLIENT),
            namespace_name(11, Place.SERVER),
            "pfbench",
            "web-10-a",
            "pfbench-x-y",
        ]
        self.assertEqual(left_behind(names, [11]), ["pfbench-10-client"])


class LabTests(SynchronousTestCase):
    """A lab on loopback, which needs no privilege."""

    def test_cleans_up(self) -> None:
        """After an error in the block its programs are ended and its folder is gone."""
        with self.assertRaises(LabError), Lab(loopback=True) as lab:
            argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
            kept = lab.program(Place.SERVER, "sleeper", argv)  # its own end never comes
            sleeper = kept.__enter__()
            sleeper.wait_output("up")
            scratch = lab.scratch
            raise LabError("broken off")
        self.assertIsNotNone(sleeper.popen.poll())
        self.assertFalse(scratch.exists())

    def test_says_so(self) -> None:
        """It says that it is on loopback and why, and changes no command line."""
        lab = Lab(loopback=True)
        self.assertEqual((lab.is_loopback, lab.why_loopback), (True, "asked for"))
        self.assertEqual(lab.within(Place.CLIENT, ["true"]), ["true"])
        self.assertEqual({lab.address(place) for place in Place}, {"127.0.0.1"})


class SweepTests(SynchronousTestCase):
    """Two labs on one machine."""

    def test_living_and_killed(self) -> None:
        """What another lab made stays while that lab lives, and goes once it was killed."""
        script = (
            "import sys; from bench.lab import Lab\n"
            "with Lab(loopback=True) as lab: print(lab.scratch, flush=True); sys.stdin.read()"
        )
        root = Path(__file__).resolve().parents[2]
        other = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert other.stdin is not None and other.stdout is not None
        self.addCleanup(other.stdin.close)
        self.addCleanup(other.stdout.close)
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        scratch = Path(other.stdout.readline().decode().strip())
        self.assertTrue(scratch.is_dir())
        sweep()
        self.assertTrue(scratch.is_dir())
        other.kill()
        other.wait()
        sweep()  # or the one of a lab that starts at this moment
        self.assertFalse(scratch.exists())


class NamespaceTests(SynchronousTestCase):
    """A lab with namespaces, where they can be had."""

    def test_apart_and_removed(self) -> None:
        """The client reaches the server through the forwarder's place; afterwards nothing is left."""
        lab = Lab()
        if lab.is_loopback:
            raise SkipTest(f"no namespaces: {lab.why_loopback}")
        with lab:
            names = [namespace_name(os.getpid(), place) for place in Place]
            self.assertTrue(all(Path("/run/netns", name).exists() for name in names))
            script = (
                "import socket; s = socket.create_server(('10.77.2.2', 9000)); print('up', flush=True);"
                "c, a = s.accept(); c.sendall(a[0].encode())"
            )
            with lab.program(Place.SERVER, "server", [sys.executable, "-c", script]) as server:
                server.wait_listening([9000], 60)
                ask = (
                    "import socket; s = socket.create_connection(('10.77.2.2', 9000), 60);"
                    "print(s.recv(99).decode())"
                )
                self.assertEqual(lab.run(Place.CLIENT, [sys.executable, "-c", ask], 60).strip(), "10.77.1.2")
        self.assertFalse(any(Path("/run/netns", name).exists() for name in names))
