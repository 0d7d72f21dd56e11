# -*- test-case-name: tests.kernel.test_inotify -*-
"""
inotify(7): which names in watched directories are made, written, replaced or removed.

`Inotify` is a descriptor for a Twisted reactor. It reads no file and does not follow symbolic links: a caller
that needs that watches each directory on the way. Only Linux has it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from enum import IntFlag
from typing import Final

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


class FileChange(IntFlag):
    """What happened to a name; the numbers are the kernel's."""

    MODIFIED = 0x2
    ATTRIBUTES = 0x4
    CLOSED = 0x8  # after it was open for writing
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATED = 0x100
    DELETED = 0x200
    OVERFLOW = 0x4000  # more changes than the kernel keeps: some are lost
    IGNORED = 0x8000  # the directory is gone, and is watched no more


#: What is asked for.
ASKED: Final = (
    FileChange.MODIFIED
    | FileChange.ATTRIBUTES
    | FileChange.CLOSED
    | FileChange.MOVED_FROM
    | FileChange.MOVED_TO
    | FileChange.CREATED
    | FileChange.DELETED
)
ONLY_DIRECTORIES: Final = 0x01000000
#: The head of an event: watch, mask, cookie, length of the name that follows.
HEAD: Final = struct.Struct("iIII")
#: Bytes of one read: some hundred events.
READ_SIZE: Final = 65536

#: What the errors of inotify's calls mean beyond their text.
HINTS: Final = {
    errno.ENOSYS: "this system has no inotify",
    errno.EMFILE: "fs.inotify.max_user_instances of this user is reached",
    errno.ENOSPC: "fs.inotify.max_user_watches of this user is reached",
}


def _call(name: str, *arguments: object) -> int:
    """
    Call a function of the C library.

    :raises OSError: with its error; ENOSYS where there is no such function.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        raise OSError(errno.ENOSYS, HINTS[errno.ENOSYS])
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, HINTS.get(number, os.strerror(number)))
    return result


@implementer(IReadDescriptor)
class Inotify:
    """One inotify instance."""

    def __init__(self, reactor: IReactorFDSet, changed: Callable[[str, str, FileChange], object]) -> None:
        """
        Make an instance that watches nothing.

        :param changed: gets the directory as `watch` got it, the name in it, and what happened.
        :raises OSError: there is no inotify, or no more of it.
        """
        self._descriptor = _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._reactor = reactor
        self._changed = changed
        self._numbers: dict[str, int] = {}
        self._directories: dict[int, str] = {}
        reactor.addReader(self)

    def __repr__(self) -> str:
        return f"<Inotify {len(self._numbers)} directories>"

    @property
    def directories(self) -> Iterable[str]:
        """What is watched."""
        return self._numbers.keys()

    def watch(self, directory: str) -> bool:
        """
        Watch a directory; another one that had this name is watched no more.

        :returns: False: it is watched already.
        :raises OSError: it cannot be watched: it is not there, or must not be read.
        """
        mask = ctypes.c_uint32(ASKED | ONLY_DIRECTORIES)
        number = _call("inotify_add_watch", self._descriptor, os.fsencode(directory), mask)
        if self._numbers.get(directory) == number:
            return False
        if directory in self._numbers:
            self.forget(directory)
        # The same directory under two names has one number: the newer name is told.
        self._directories[number] = directory
        self._numbers[directory] = number
        return True

    def forget(self, directory: str) -> None:
        """Watch a directory no more."""
        number = self._numbers.pop(directory)
        if self._directories.get(number) == directory:
            del self._directories[number]
            try:
                _call("inotify_rm_watch", self._descriptor, number)
            except OSError:
                pass  # it is gone

    def close(self) -> None:
        """End it; nothing is told any more."""
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    # -- IReadDescriptor ------------------------------------------------------------

    def fileno(self) -> int:
        """See `IReadDescriptor`; -1 when it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """See `IReadDescriptor`."""
        return "inotify"

    def connectionLost(self, reason: Failure) -> None:
        """See `IReadDescriptor`; the reactor ends."""
        self.close()

    def doRead(self) -> None:
        """Tell what has happened since the last time."""
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except BlockingIOError:
            return
        place = 0
        while place < len(data) and self._descriptor >= 0:
            number, mask, _, size = HEAD.unpack_from(data, place)
            place += HEAD.size
            name = os.fsdecode(data[place : place + size].rstrip(b"\0"))
            place += size
            self._tell(number, name, mask)

    def _tell(self, number: int, name: str, mask: int) -> None:
        if mask & FileChange.OVERFLOW:
            self._changed("", "", FileChange.OVERFLOW)
            return
        directory = self._directories.get(number)
        if directory is None:
            return
        if mask & FileChange.IGNORED:
            del self._directories[number]
            self._numbers.pop(directory, None)
        self._changed(directory, name, FileChange(mask & (ASKED | FileChange.IGNORED)))
