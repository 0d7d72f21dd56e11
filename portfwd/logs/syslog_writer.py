# -*- test-case-name: tests.logs.test_syslog_writer -*-
"""
Brings lines to syslog, and never makes the caller wait.

syslog(3) blocks while the daemon does not read its socket. `LineWriter` has the thread and the bounded queue.
A line begins with its priority, as RFC 3164 section 4.1.1 writes it: ``<6>text``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from portfwd.logs.writer import LineWriter

#: Priorities of syslog(3): LOG_ALERT, LOG_WARNING and LOG_INFO, spelled out where there is no syslog.
ALERT: Final = 1
WARNING: Final = 4
INFO: Final = 6

_PRIORITY: Final = re.compile("<([0-7])>")


def with_priority(priority: int, text: str) -> str:
    """Each line of `text` with its priority before it."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


class SyslogWriter(LineWriter):
    """Takes lines with priorities, and gives each to syslog."""

    def __init__(
        self,
        send: Callable[[int, str], object],
        complain: Callable[[str], None],
        *,
        dropped_line: Callable[[int], str],
        held: bool = False,
    ) -> None:
        """
        Nothing is sent before `begin`, if it is `held`.

        :param send: ``syslog.syslog``.
        """
        # A line writer needs a descriptor; nothing is written to this one.
        with open(os.devnull, "wb") as nowhere:
            super().__init__(
                nowhere,
                complain,
                dropped_line=dropped_line,
                flush_interval=0.0,
                held=held,
                drops_are_news=False,
            )
        self.name, self._descriptor = "syslog", -1
        self._send = send

    def _put(self, batch: bytes, start: int) -> int:
        for line in batch[start:].decode("utf-8", "backslashreplace").split("\n"):
            match = _PRIORITY.match(line)
            text = line if match is None else line[match.end() :]
            if text:
                self._send(INFO if match is None else int(match[1]), text)
        return len(batch) - start
