# -*- test-case-name: tests.service.test_tap -*-
"""
The services of a forwarder under twistd.

`Daemon` reports a failed start in a form that twistd supports, and writes the last log lines when it stops.
`Announcing` logs that the forwarder is ready.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from portfwd.errors import StartError
from portfwd.kernel.reactor import Reactor
from portfwd.service.daemon.event_log import WrittenLog
from portfwd.service.daemon.garbage import collector_off
from portfwd.service.daemon.notify import STOP_MARGIN, Heartbeat, Notifier, status_of
from portfwd.service.daemon.pid_file import PidFile, remove_own_pid_file
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.session_log import LogInUse
from portfwd.values import counted

#: Maximum seconds for writing the last lines of the access log.
LAST_LINES: Final = 2.0


class Announcing(Service):
    """Logs that the forwarder is ready. It is the last child service, so it starts last."""

    name = "portfwd announcement"

    def __init__(
        self,
        reactor: Reactor,
        forwarder: Forwarder,
        warnings: Sequence[str],
        notifier: Notifier | None = None,
    ) -> None:
        self._reactor = reactor
        self.notifier = notifier
        self._forwarder = forwarder
        self._warnings = warnings
        self._log = Logger()

    def startService(self) -> None:
        """Call `announce` when the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self.announce)

    def announce(self) -> None:
        """Log the warnings of the rules and the number of listeners, and notify systemd."""
        for warning in self._warnings:
            self._log.warn("{line}", line=warning)
        count = len(self._forwarder.addresses)
        self._log.info("portfwd is ready: {count}", count=counted(count, "listener"))
        if self.notifier is not None:
            self.notifier.ready(status_of(self._forwarder))


class Daemon(MultiService):
    """
    The services of a forwarder under twistd.

    It reports a failed start in a form that twistd supports: in the foreground one line per failure and exit
    status 1; as a daemon an exception, because the parent process waits for it.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        session_log: LogInUse,
        *,
        foreground: bool,
        twistd_pid_file: str | None,
        heartbeat: Heartbeat | None = None,
        notifier: Notifier | None = None,
        event_log: WrittenLog | None = None,
    ) -> None:
        """
        :param twistd_pid_file: path of twistd's pid file, which is removed if a start in the foreground
            fails.
        :param event_log: None if twistd writes the log.
        """
        super().__init__()
        self._forwarder = forwarder
        self.session_log = session_log
        self._heartbeat = heartbeat
        self.notifier = notifier
        self.foreground = foreground
        self._twistd_pid_file = twistd_pid_file
        self._event_log = event_log
        self._log = Logger()
        forwarder.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """See `IService`. The application gets the observer of the log, so that twistd makes none."""
        super().setServiceParent(parent)
        if self._event_log is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._event_log)

    @collector_off()
    def privilegedStartService(self) -> None:
        """See `IService`. Binds the listeners."""
        if self._event_log is not None:
            self._event_log.begin()
        try:
            super().privilegedStartService()
        except StartError as problem:
            self._give_up(problem)

    @collector_off()
    def startService(self) -> None:
        """See `IService`. Accepts clients."""
        try:
            super().startService()
        except StartError as problem:
            self._give_up(problem)

    def _give_up(self, problem: StartError) -> None:
        self._withdraw_pid_file()
        if self.foreground:
            for line in problem.failures:
                print(f"portfwd: {line}", file=sys.stderr)
            remove_own_pid_file(self._twistd_pid_file)
            raise SystemExit(1)
        for line in problem.failures:
            self._log.critical("{line}", line=line)
        # Only 100 bytes of this text reach the terminal, including the name of the exception.
        count = len(problem.failures)
        first = problem.failures[0]
        raise StartError([first if count == 1 else f"1 of {count}: {first}"]) from problem

    def stopService(self) -> Deferred[Any]:
        """See `IService`. Drains, then writes the last lines of the access log."""
        if self.notifier is not None:
            self.notifier.stopping(
                f"draining {counted(self._forwarder.session_count, 'session')}",
                self._forwarder.drain_limit + STOP_MARGIN,
            )
        stopped: Deferred[Any] = super().stopService()
        stopped.addBoth(self._stopped)
        return stopped

    def _stopped(self, result: Any) -> Any:
        self._close_logs()
        if self._heartbeat is not None:
            self._heartbeat.end()
        return result

    def _close_logs(self) -> None:
        self._forwarder.sinks.close(LAST_LINES)
        self.session_log.close(LAST_LINES)

    def write_last(self) -> None:
        """Remove pid files and write the last lines of logs, before the process is ended by force."""
        self._withdraw_pid_file()
        remove_own_pid_file(self._twistd_pid_file)
        self._close_logs()
        if self._event_log is not None:
            self._event_log.flush()

    def _withdraw_pid_file(self) -> None:
        for service in self:
            if isinstance(service, PidFile):
                service.withdraw()
