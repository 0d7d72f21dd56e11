# -*- test-case-name: tests.listen.test_unix_files -*-
"""
Files and locks of unix sockets.

A process that listens on ``/run/a.sock`` holds a lock on ``/run/a.sock.lock``, as Wayland compositors do.
Connecting to a path does not show whether it is free: a socket that is bound but not listening refuses
connections, like one whose process has died. So only the holder of the lock removes the file. A file is
identified by more than its name; a different file with the same name is neither removed nor changed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Final

from attrs import define, field, frozen

from portfwd.listen.unix_names import is_bound
from portfwd.rules.model import ListenOptions
from portfwd.values import UnixAddress

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

#: Permission bits of a unix socket's file without ``mode=``. Other users must not reach a database by
#: accident.
DEFAULT_MODE: Final = 0o600

#: Suffix of the lock file.
LOCK_SUFFIX: Final = ".lock"

#: Number of times that the lock file may vanish between opening and locking before the name counts as in use.
TRIES: Final = 5


class UnixSocket(socket.socket):
    """A bound unix socket. It holds the lock of its name until it is closed."""

    lock: PathLock | None = None

    def close(self) -> None:
        """Close the socket, then release the lock."""
        super().close()
        lock, self.lock = self.lock, None
        if lock is not None:
            lock.release()


@frozen
class PathLock:
    """The lock of one name. Forked child processes hold it too."""

    path: str
    descriptor: int = field(repr=False)

    def release(self) -> None:
        """
        Release the lock. Its file is removed first, so no process can lock a removed file.

        If the directory was replaced by another one of the same name, the path is another lock, which stays.
        """
        try:
            if os.path.samestat(os.lstat(self.path), os.fstat(self.descriptor)):
                os.unlink(self.path)
        except OSError:  # privileges were dropped: it stays, unlocked
            pass
        os.close(self.descriptor)


def lock_path(path: str) -> PathLock | None:
    """
    Lock the name of a socket.

    :returns: None if another process holds the lock, or the file cannot be made.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return None
    name = path + LOCK_SUFFIX
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(TRIES):
        try:
            descriptor = os.open(name, flags, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there, ours = os.lstat(name), os.fstat(descriptor)
        except FileNotFoundError:
            os.close(descriptor)
            continue  # its holder has just released it
        except OSError:
            os.close(descriptor)
            return None
        if os.path.samestat(there, ours):
            return PathLock(os.path.abspath(name), descriptor)
        os.close(descriptor)
    return None


def bind_unix(
    address: UnixAddress, listen: ListenOptions, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """
    Bind a unix socket. The file of a process that has died is removed.

    :raises OSError: it cannot be bound.
    """
    sock = UnixSocket(socket.AF_UNIX, kind)
    mode = DEFAULT_MODE if listen.mode is None else listen.mode
    try:
        sock.setblocking(False)
        if not address.path.startswith("@"):
            sock.lock = lock_path(address.path)
            # Without it somebody may be about to listen there: then the file stays, and the name is taken.
            if sock.lock is not None:
                _remove_stale(address, kind)
        # Create the file with its final bits. With a later chmod other users could connect for a moment.
        umask = os.umask(0o777 & ~mode)
        try:
            sock.bind(address.sockaddr)
        finally:
            os.umask(umask)
    except OSError as problem:
        sock.close()
        if problem.errno == errno.EADDRINUSE and not address.path.startswith("@"):
            refuse_other_kinds(address.path)
        raise
    return sock


def refuse_other_kinds(path: str) -> None:
    """
    Refuse a file at `path` that is not a socket. The kernel calls its name an address in use.

    :raises FileExistsError: there is one.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a file that is not a socket"
        raise FileExistsError(errno.EEXIST, f"{what} is there", path)


def _remove_stale(address: UnixAddress, kind: socket.SocketKind) -> None:
    """
    Remove the socket file of a process that is gone; a live one, or another kind of file, stays.

    Only the holder of the lock asks. Programs that know nothing of it are asked by a connection. If that is
    refused, the kernel says whether a socket is bound there that does not listen yet.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.sockaddr)
        except ConnectionRefusedError:
            if not is_bound(address.path):
                os.unlink(address.path)
        except OSError:
            return


@define
class SocketFile:
    """
    The file of a unix socket that this process has bound, identified by more than its name.

    If another forwarder has taken the path, this one must not remove its file at the end. Inode numbers are
    reused, but creation times are not.
    """

    path: str
    made: tuple[int, int, int]
    _aside: str | None = field(default=None, init=False)

    @property
    def is_gone(self) -> bool:
        """Whether the name does not exist any more, so no client finds the socket."""
        return not os.path.lexists(self.path)

    @property
    def is_there(self) -> bool:
        """Whether its name still refers to this file."""
        try:
            return _made(os.lstat(self.path)) == self.made
        except OSError:
            return False

    def step_aside(self, sock: socket.socket) -> None:
        """
        Move the file away, so another socket of this process can be bound to the name. `step_back` undoes it.

        :param sock: the socket of the file.
        :raises OSError: the file cannot be renamed.
        """
        if isinstance(sock, UnixSocket) and sock.lock is not None:
            sock.lock.release()
            sock.lock = None
        aside = f"{self.path}.{os.getpid()}-{sock.fileno()}.going"
        try:
            if _made(os.lstat(self.path)) == self.made:
                os.rename(self.path, aside)
                self._aside = aside
        except FileNotFoundError:
            return

    def step_back(self, sock: socket.socket) -> None:
        """
        Restore the name, unless another process has taken it.

        :raises OSError: the name is in use.
        """
        if isinstance(sock, UnixSocket) and sock.lock is None:
            sock.lock = lock_path(self.path)
        aside, self._aside = self._aside, None
        if aside is not None:
            os.link(aside, self.path)  # other than a rename, this removes nobody else's file
            os.unlink(aside)

    def remove(self) -> None:
        """Remove the file if the name still refers to it."""
        try:
            path = self.path if self._aside is None else self._aside
            if _made(os.lstat(path)) == self.made:
                os.unlink(path)
        except OSError:
            return

    def change_mode(self, mode: int | None) -> None:
        """
        Change the permission bits; None for `DEFAULT_MODE`.

        :raises OSError: the name does not refer to this file any more. Another file or link is left alone.
        """
        mode = DEFAULT_MODE if mode is None else mode
        path_only = getattr(os, "O_PATH", None)
        if path_only is None:  # pragma: no cover - not Linux; there links need not be followed
            self._check(os.lstat(self.path))
            os.chmod(self.path, mode, follow_symlinks=False)
            return
        descriptor = os.open(self.path, path_only | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._check(os.fstat(descriptor))
            # fchmod(2) refuses a descriptor of this kind, which names the file and opens nothing.
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)

    def _check(self, found: os.stat_result) -> None:
        if _made(found) != self.made:
            raise OSError(errno.ESTALE, "another file stands in its place")


def try_unix(address: UnixAddress, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """
    Check whether `bind_unix` could bind, without making a file.

    :raises OSError: it could not.
    """
    if address.path.startswith("@"):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.bind(address.sockaddr)
        return
    directory = os.path.dirname(os.path.abspath(address.path))
    os.stat(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    refuse_other_kinds(address.path)
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            if stat.S_ISSOCK(found.st_mode) and not _is_locked(address.path + LOCK_SUFFIX):
                probe.connect(address.sockaddr)
        except ConnectionRefusedError:
            if not is_bound(address.path):
                return  # its process is gone: a start removes it
        except OSError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _is_locked(name: str) -> bool:
    """Whether any process, including this one, holds the lock `name`."""
    if fcntl is None:  # pragma: no cover - Windows
        return False
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def socket_file(sock: socket.socket) -> SocketFile | None:
    """The file of a socket that has just been bound; None if it has none."""
    if sock.family != getattr(socket, "AF_UNIX", None):
        return None
    path = sock.getsockname()
    if not isinstance(path, str) or not path or path.startswith("\0"):
        return None
    try:
        return SocketFile(path, _made(os.lstat(path)))
    except OSError:
        return None


def _made(found: os.stat_result) -> tuple[int, int, int]:
    """The identity of the file. It is not changed by operations on a socket's file such as `chmod`."""
    return found.st_dev, found.st_ino, found.st_mtime_ns
