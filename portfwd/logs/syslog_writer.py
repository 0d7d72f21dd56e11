# -*- test-case-name: tests.logs.test_syslog_writer -*-
"""
Writes lines to syslog without blocking the caller.

syslog(3) blocks while the daemon does not read its socket, so the thread of `LineWriter` calls it. A line
begins with its priority, as in RFC 3164 section 4.1.1: ``<6>text``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from portfwd.logs.writer import LineWriter

#: Priorities of syslog(3), for systems without it: LOG_ALERT, LOG_WARNING and LOG_INFO.
ALERT: Final = 1
WARNING: Final = 4
INFO: Final = 6

_PRIORITY: Final = re.compile("<([0-7])>")


def with_priority(priority: int, text: str) -> str:
    """Add the priority to each line of `text`."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


class SyslogWriter(LineWriter):
    """Passes each line to syslog with its priority."""

    def __init__(
        self,
        send: Callable[[int, str], object],
        complain: Callable[[str], None],
        *,
        dropped_line: Callable[[int], str],
        held: bool = False,
    ) -> None:
        """
        :param send: ``syslog.syslog``.
        :param held: send nothing before `begin` is called.
        """
        # A `LineWriter` needs a descriptor. Nothing is written to this one.
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
