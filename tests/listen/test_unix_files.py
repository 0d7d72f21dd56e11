"""Tests of `portfwd.listen.unix_files`: who holds the name of a unix socket."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from portfwd.listen.unix_files import LOCK_SUFFIX, bind_unix, lock_path, socket_file, try_unix
from portfwd.rules.model import ListenOptions
from portfwd.values import UnixAddress

#: Binds each path that it is told, says whether it could, and keeps it.
STARTER = """
import sys
from portfwd.listen.unix_files import bind_unix
from portfwd.rules.model import ListenOptions
from portfwd.values import UnixAddress
kept = []
for line in sys.stdin:
    try:
        kept.append(bind_unix(UnixAddress(line.strip()), ListenOptions()))
        print("bound", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class UnixFileCase(SynchronousTestCase):
    """A directory for sockets."""

    def setUp(self) -> None:
        # Trial's own directories are too deep for a unix socket's name.
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/socket"

    def bind(self, path: str = "", kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Bind as a rule does."""
        bound = bind_unix(UnixAddress(path or self.path), ListenOptions(), kind)
        self.addCleanup(bound.close)
        return bound


class LockTests(UnixFileCase):
    """Names that are held."""

    def test_bound_is_not_stale(self) -> None:
        """A socket that is bound and does not listen yet keeps its file, for streams and for datagrams."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            first = self.bind(kind=kind)
            for other in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                self.assertRaises(OSError, self.bind, kind=other)
            self.assertEqual(os.lstat(self.path).st_ino, os.lstat(first.getsockname()).st_ino)
            os.unlink(self.path)
            first.close()

    def test_foreign(self) -> None:
        """A socket of a program without locks that is bound and does not listen yet keeps its file, too."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            foreign = socket.socket(socket.AF_UNIX, kind)
            self.addCleanup(foreign.close)
            foreign.bind(self.path)
            self.assertRaises(OSError, self.bind)
            self.assertRaises(OSError, try_unix, UnixAddress(self.path))
            self.assertTrue(os.path.exists(self.path))
            foreign.close()
            try_unix(UnixAddress(self.path))
            self.bind().close()
            os.unlink(self.path)

    def test_by_another_name(self) -> None:
        """The name is the file's, however it is written."""
        self.bind()
        link = f"{self.directory}/link"
        os.symlink(self.directory, link)
        for path in (f"{self.directory}/./socket", f"{link}/socket"):
            self.assertRaises(OSError, self.bind, path)

    def test_let_go(self) -> None:
        """With the socket the lock goes, and its file."""
        self.bind().close()
        self.assertEqual(os.listdir(self.directory), ["socket"])
        self.bind()
        self.assertEqual(sorted(os.listdir(self.directory)), ["socket", "socket" + LOCK_SUFFIX])

    def test_lock_that_was_left(self) -> None:
        """The lock's file of a process that is gone holds nothing."""
        with open(self.path + LOCK_SUFFIX, "w", encoding="ascii"):
            pass
        self.bind()

    def test_moved(self) -> None:
        """Where another directory has the name of the lock's, the lock in it is not the one that goes."""
        directory = f"{self.directory}/now"
        os.mkdir(directory)
        first = self.bind(f"{directory}/socket")
        os.rename(directory, f"{self.directory}/before")
        os.mkdir(directory)
        self.bind(f"{directory}/socket")
        first.close()
        self.assertEqual(sorted(os.listdir(directory)), ["socket", "socket" + LOCK_SUFFIX])

    def test_private(self) -> None:
        """Nobody else can open the lock."""
        self.bind()
        self.assertEqual(stat.S_IMODE(os.lstat(self.path + LOCK_SUFFIX).st_mode), 0o600)

    def test_no_lock(self) -> None:
        """Where there can be no lock a free name is bound, and a file that is there stays."""
        os.mkdir(self.path + LOCK_SUFFIX)
        self.assertIsNone(lock_path(self.path))
        self.bind().close()
        self.assertRaises(OSError, self.bind)
        self.assertTrue(stat.S_ISSOCK(os.lstat(self.path).st_mode))

    def test_symbolic_link(self) -> None:
        """A symbolic link in the lock's place is not followed."""
        os.symlink(f"{self.directory}/elsewhere", self.path + LOCK_SUFFIX)
        self.bind()
        self.assertFalse(os.path.exists(f"{self.directory}/elsewhere"))

    def test_two_instances(self) -> None:
        """Of two processes that start at once on many stale paths each path has exactly one owner."""
        paths = [f"{self.directory}/{number}" for number in range(100)]
        for path in paths:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(path)
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for starter in starters:
            self.addCleanup(starter.wait)
            self.addCleanup(starter.kill)
            assert starter.stdin is not None
            starter.stdin.write("\n".join(paths) + "\n")
            starter.stdin.flush()
        said = []
        for starter in starters:
            assert starter.stdout is not None
            said.append([starter.stdout.readline().strip() for _ in paths])
            self.addCleanup(starter.stdout.close)
        for one, other in zip(*said, strict=True):
            self.assertEqual({one, other}, {"bound", "Address already in use"})


class ModeTests(UnixFileCase):
    """Permission bits of a file."""

    def test_own(self) -> None:
        """Those of the file that was made are changed."""
        file = socket_file(self.bind())
        assert file is not None
        file.change_mode(0o640)
        self.assertEqual(stat.S_IMODE(os.lstat(self.path).st_mode), 0o640)

    def test_of_another(self) -> None:
        """Another file in its place keeps its own, be it a link, a file or nothing."""
        file = socket_file(self.bind())
        assert file is not None
        os.unlink(self.path)
        self.assertRaises(OSError, file.change_mode, 0o666)
        with open(f"{self.directory}/other", "w", encoding="ascii"):
            os.chmod(f"{self.directory}/other", 0o600)
        for replace in (os.symlink, os.link):
            replace(f"{self.directory}/other", self.path)
            self.assertRaises(OSError, file.change_mode, 0o666)
            os.unlink(self.path)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.directory}/other").st_mode), 0o600)
