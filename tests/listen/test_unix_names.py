"""Whether some socket is bound to a path."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from portfwd.listen import unix_names
from portfwd.listen.unix_names import is_bound


class BoundTests(SynchronousTestCase):
    """Sockets that do not listen."""

    if sys.platform != "linux":  # pragma: no cover - not Linux
        skip = "only Linux lists unix sockets"

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/a socket"

    def bind(self, path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket with that name."""
        sock = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(sock.close)
        sock.bind(path)
        return sock

    def test_bound(self) -> None:
        """A path is bound as long as its socket is open, whatever becomes of the file."""
        self.assertFalse(is_bound(self.path))
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            sock = self.bind(self.path, kind)
            self.assertTrue(is_bound(self.path))
            os.unlink(self.path)
            self.assertTrue(is_bound(self.path))
            sock.close()
            self.assertFalse(is_bound(self.path))

    def test_by_another_way(self) -> None:
        """A symbolic link to the directory, a relative path and a longer way lead to the same file."""
        os.symlink(self.directory, link := f"{self.directory}/link")
        self.bind(f"{link}/a socket")
        for path in (self.path, f"{self.directory}/link/../a socket", os.path.relpath(self.path)):
            self.assertTrue(is_bound(path), path)
        self.assertFalse(is_bound(f"{self.directory}/socket"))

    def test_relative(self) -> None:
        """A socket that was bound by a relative path may be at every path with that last part."""
        before = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, before)
        self.bind("relative")
        self.assertTrue(is_bound(f"{self.directory}/relative"))
        self.assertTrue(is_bound("/somewhere/relative"))

    def test_others(self) -> None:
        """Abstract names, and the same last part in another directory, are not this path."""
        self.bind(f"\0{self.path}")
        os.mkdir(other := f"{self.directory}/other")
        self.bind(f"{other}/a socket")
        self.assertFalse(is_bound(self.path))
        shutil.rmtree(other)
        self.assertFalse(is_bound(self.path))

    def test_unknown(self) -> None:
        """Where nobody can tell it counts as bound."""
        self.assertTrue(is_bound(f"{self.directory}/two\nlines"))
        self.patch(unix_names, "TABLE", f"{self.directory}/no table")
        self.assertTrue(is_bound(self.path))
