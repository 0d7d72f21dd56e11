# -*- test-case-name: tests.service.run.test_settling -*-
"""
Decides when to read changed files: shortly after the last change, and not while a file is being written.

A pure state machine: names and the time are its input, the time of the next read is its output.
"""

from __future__ import annotations

from typing import Final

from attrs import Factory, define

#: Seconds without a change before a read. An editor that replaces a file makes several changes.
QUIET: Final = 0.1
#: Seconds without a change of a file that is open for writing. A copy over a slow line may pause.
WRITING: Final = 10.0
#: Seconds after the first change before a read, even if more changes follow, unless a file is being written.
LONGEST: Final = 2.0


@define
class Settling:
    """
    Changes since the last read.

    :ivar first, last: times of the first and the last change; None for none.
    :ivar written: changed files that are still open, if known.
    """

    first: float | None = None
    last: float = 0.0
    written: set[str] = Factory(set)

    def noticed(self, now: float, name: str = "", *, is_open: bool | None = None) -> None:
        """
        Record a change.

        :param name: the file.
        :param is_open: True if its contents have changed and it is still open; False if it was closed,
            replaced or removed; None if unknown.
        """
        if is_open:
            self.written.add(name)
        elif is_open is not None:
            self.written.discard(name)
        if self.first is None:
            self.first = now
        self.last = now

    @property
    def due(self) -> float | None:
        """The time of the next read; None if there are no changes."""
        if self.first is None:
            return None
        if self.written:
            return self.last + WRITING
        return min(self.last + QUIET, self.first + LONGEST)

    def looked(self) -> None:
        """A read begins. Later changes belong to the next one."""
        self.first = None
        self.written.clear()
