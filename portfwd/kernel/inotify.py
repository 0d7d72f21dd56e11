# -*- test-case-name: tests.kernel.test_inotify -*-
"""
inotify(7): reports which names in watched directories are created, written, replaced or removed.

`Inotify` is a reader for a Twisted reactor. It reads no files and does not follow symbolic links; a caller
that needs this watches each directory of the path. Linux only.
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
    """What happened to a name. The values are those of the kernel."""

    MODIFIED = 0x2
    ATTRIBUTES = 0x4
    CLOSED = 0x8  # after it was open for writing
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATED = 0x100
    DELETED = 0x200
    OVERFLOW = 0x4000  # more changes than the kernel keeps: some are lost
    IGNORED = 0x8000  # the directory is gone, and is watched no more


#: The events that a watch reports.
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
#: Bytes of one read, enough for some hundred events.
READ_SIZE: Final = 65536

#: Explanations of errors of inotify's calls.
HINTS: Final = {
    errno.ENOSYS: "this system has no inotify",
    errno.EMFILE: "fs.inotify.max_user_instances of this user is reached",
    errno.ENOSPC: "fs.inotify.max_user_watches of this user is reached",
}


def _call(name: str, *arguments: object) -> int:
    """
    Call a function of the C library.

    :raises OSError: the error of the call; ENOSYS if the library does not have the function.
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
        Make an instance without watches.

        :param changed: called with the directory as given to `watch`, the name in it, and the event.
        :raises OSError: inotify is missing, or its limit of instances is reached.
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
        """The watched directories."""
        return self._numbers.keys()

    def watch(self, directory: str) -> bool:
        """
        Watch a directory. This replaces the watch of another directory that had the same name before.

        :returns: False if it is watched already.
        :raises OSError: it does not exist or cannot be read.
        """
        mask = ctypes.c_uint32(ASKED | ONLY_DIRECTORIES)
        number = _call("inotify_add_watch", self._descriptor, os.fsencode(directory), mask)
        if self._numbers.get(directory) == number:
            return False
        if directory in self._numbers:
            self.forget(directory)
        # One directory under two names has one number. Events report the newer name.
        self._directories[number] = directory
        self._numbers[directory] = number
        return True

    def forget(self, directory: str) -> None:
        """Stop watching a directory."""
        number = self._numbers.pop(directory)
        if self._directories.get(number) == directory:
            del self._directories[number]
            try:
                _call("inotify_rm_watch", self._descriptor, number)
            except OSError:
                pass  # it is gone

    def close(self) -> None:
        """Close the instance. `changed` is not called any more."""
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
        """See `IReadDescriptor`. The reactor is stopping."""
        self.close()

    def doRead(self) -> None:
        """Report the events since the last call."""
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
