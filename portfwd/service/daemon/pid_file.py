# -*- test-case-name: tests.service.test_tap -*-
"""Pid files: rinetd's ``pidlogfile``, and twistd's pid file if twistd does not remove it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.application.service import Service
from twisted.logger import Logger


def remove_own_pid_file(path: str | None) -> None:
    """Remove twistd's pid file if it contains the number of this process."""
    try:
        if path is not None and Path(path).read_text("ascii").strip() == str(os.getpid()):
            os.unlink(path)
    except (OSError, ValueError):
        return  # it does not exist, or cannot be read


class PidFile(Service):
    """Writes and removes the file of rinetd's ``pidlogfile``."""

    name = "portfwd pid file"

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = False
        self._log = Logger()

    def privilegedStartService(self) -> None:
        """Write the file before privileges are dropped. A failure is a warning, as in rinetd."""
        try:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            self._written = True
        except OSError as problem:
            self._log.warn("pid file {path}: {problem}", path=self._path, problem=problem.strerror)

    def stopService(self) -> None:
        """Remove the file, if the process still has permission."""
        super().stopService()
        self.withdraw()

    def withdraw(self) -> None:
        """Remove the file if this process has written it."""
        if not self._written:
            return
        self._written = False
        try:
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                return  # a device, as /dev/null
            os.unlink(self._path)
        except OSError as problem:
            self._log.info(
                "pid file {path} was not removed: {problem}", path=self._path, problem=problem.strerror
            )
