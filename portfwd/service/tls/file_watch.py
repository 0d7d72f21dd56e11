# -*- test-case-name: tests.service.tls.test_file_watch -*-
"""
Whether files are others than before: looked at when somebody needs them, and not too often.

It reads no file and keeps no descriptor: a file is known by its number, time and size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

#: Seconds between looks at the files; looks are made when clients come.
LOOK_EVERY: Final = 10.0

#: What a file looked like: its number, time and size, or None for one that is not there.
Signature = tuple[tuple[str, tuple[int, int, int] | None], ...]


class FileWatch:
    """The files of one thing that is made of them."""

    def __init__(self, files: Callable[[], Iterable[str]], seconds: Callable[[], float]) -> None:
        """
        Look at them.

        :param files: names them; a directory may have others next time.
        :param seconds: the reactor's clock.
        :raises OSError, ValueError: what `files` raises.
        """
        self._files = files
        self._seconds = seconds
        self._looked_at = seconds()
        self._signature = self._sign()

    def _sign(self) -> Signature:
        return tuple((path, _look(path)) for path in self._files())

    @property
    def due(self) -> bool:
        """Whether it is time to look; then it is not for a while."""
        now = self._seconds()
        if now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        return True

    def look(self) -> Signature:
        """What they look like now; it may be called in a thread, and changes nothing."""
        try:
            return self._sign()
        except (OSError, ValueError) as problem:
            return ((str(problem), None),)

    def differs(self, found: Signature) -> bool:
        """Whether they look different from what was settled last."""
        return found != self._signature

    def settle(self, found: Signature) -> None:
        """They were read as they looked then."""
        self._signature = found


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
