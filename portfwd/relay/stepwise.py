# -*- test-case-name: tests.relay.test_dial -*-
"""
Work that goes on step by step, and whose steps may be over within their own call.

Thousands of addresses may fail at once, each within its own start. A step that called the next one would need
a stack as deep; here the call only asks the loop that is running already for one step more.
"""

from __future__ import annotations


class Stepwise:
    """Runs `_step` until it has nothing more to do."""

    _running = False
    _again = False

    def _go_on(self) -> None:
        """Take a step now, or after the one that is being taken."""
        self._again = True
        if self._running:
            return
        self._running = True
        try:
            while self._again:
                self._again = False
                self._step()
        finally:
            self._running = False

    def _step(self) -> None:
        """Start what is next, if it is time for it; calls `_go_on` when more may be to do."""
        raise NotImplementedError
