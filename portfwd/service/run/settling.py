# -*- test-case-name: tests.service.run.test_settling -*-
"""
When files that change are looked at: a moment after the last change, and not while one is being written.

A pure state machine: names and the time go in, the time of the next look comes out. It does not know what a
look finds.
"""

from __future__ import annotations

from typing import Final

from attrs import Factory, define

#: Seconds without a change before a look: an editor that replaces a file makes several changes.
QUIET: Final = 0.1
#: Seconds without a change of a file that is open for writing: a copy over a slow line pauses.
WRITING: Final = 10.0
#: Seconds after the first change when a look is made, even if others follow, unless a file is being written.
LONGEST: Final = 2.0


@define
class Settling:
    """
    Changes since the last look.

    :ivar first, last: when the first and the last of them came; None: there are none.
    :ivar written: files that were changed and are still open, as far as is known.
    """

    first: float | None = None
    last: float = 0.0
    written: set[str] = Factory(set)

    def noticed(self, now: float, name: str = "", *, is_open: bool | None = None) -> None:
        """
        Something has changed.

        :param name: the file.
        :param is_open: True: bytes of it have changed, and more may follow until it is closed. False: it was
            closed, replaced or removed. None: that is not known.
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
        """When to look; None: there is nothing to look for."""
        if self.first is None:
            return None
        if self.written:
            return self.last + WRITING
        return min(self.last + QUIET, self.first + LONGEST)

    def looked(self) -> None:
        """A look begins; what comes from now on is for the next one."""
        self.first = None
        self.written.clear()
