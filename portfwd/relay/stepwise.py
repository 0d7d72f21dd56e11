# -*- test-case-name: tests.relay.test_dial -*-
"""
Work in steps that may complete within their own call, without recursion.

Thousands of addresses may fail at once, each during its start. If each step called the next one, the stack
would be as deep. Here the running loop takes one more step instead.
"""

from __future__ import annotations


class Stepwise:
    """Calls `_step` until there is nothing more to do."""

    _running = False
    _again = False

    def _go_on(self) -> None:
        """Take a step now, or after the current one."""
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
        """Start the next work if it is due. Calls `_go_on` if there may be more."""
        raise NotImplementedError
