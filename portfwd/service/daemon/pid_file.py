# -*- test-case-name: tests.service.test_tap -*-
"""Files with the process's number: rinetd's, and twistd's where it is left behind."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.application.service import Service
from twisted.logger import Logger


def remove_own_pid_file(path: str | None) -> None:
    """Remove twistd's pid file if it is this process's."""
    try:
        if path is not None and Path(path).read_text("ascii").strip() == str(os.getpid()):
            os.unlink(path)
    except (OSError, ValueError):
        return  # it is not there, or not ours


class PidFile(Service):
    """The file of rinetd's ``pidlogfile``."""

    name = "portfwd pid file"

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = False
        self._log = Logger()

    def privilegedStartService(self) -> None:
        """Write it, while there are privileges to do so; not to be able to is a warning, as rinetd has it."""
        try:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            self._written = True
        except OSError as problem:
            self._log.warn("pid file {path}: {problem}", path=self._path, problem=problem.strerror)

    def stopService(self) -> None:
        """Remove it, if that is still allowed."""
        super().stopService()
        self.withdraw()

    def withdraw(self) -> None:
        """Remove what was written, if anything was: the file may be another process's."""
        if not self._written:
            return
        self._written = False
        try:
            os.unlink(self._path)
        except OSError as problem:
            self._log.info("pid file {path} stays: {problem}", path=self._path, problem=problem.strerror)
