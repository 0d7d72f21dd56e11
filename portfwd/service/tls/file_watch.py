# -*- test-case-name: tests.service.tls.test_file_watch -*-
"""
Detects changes of files, at most once per `LOOK_EVERY` seconds and only when the files are needed.

It reads no file and keeps no descriptor open. It compares inode numbers, modification times and sizes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

#: Minimum seconds between two checks of the files. A new connection causes the check.
LOOK_EVERY: Final = 10.0

#: For each path the inode number, modification time in nanoseconds and size in bytes; None for a missing
#: file.
Signature = tuple[tuple[str, tuple[int, int, int] | None], ...]


class FileWatch:
    """A set of files and their last known signature."""

    def __init__(self, files: Callable[[], Iterable[str]], seconds: Callable[[], float]) -> None:
        """
        Take the signature of the files.

        :param files: returns the paths; called for each check, because the files of a directory may change.
        :param seconds: the reactor's clock.
        :raises OSError, ValueError: raised by `files`.
        """
        self._files = files
        self._seconds = seconds
        self._looked_at = seconds()
        self._signature = self._sign()

    def _sign(self) -> Signature:
        return tuple((path, _look(path)) for path in self._files())

    @property
    def due(self) -> bool:
        """Whether the next check is due. Reading True starts the next interval."""
        now = self._seconds()
        if now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        return True

    def look(self) -> Signature:
        """The present signature. It may be called in a thread, and changes nothing."""
        try:
            return self._sign()
        except (OSError, ValueError) as problem:
            return ((str(problem), None),)

    def differs(self, found: Signature) -> bool:
        """Whether `found` differs from the last known signature."""
        return found != self._signature

    def since(self, before: FileWatch) -> list[str]:
        """The paths whose files are not those that `before` knows: changed, added and removed ones."""
        known, now = dict(before._signature), dict(self._signature)
        return [path for path in {**now, **known} if path not in known or known[path] != now.get(path)]

    def settle(self, found: Signature) -> None:
        """Set the last known signature to `found`."""
        self._signature = found


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
