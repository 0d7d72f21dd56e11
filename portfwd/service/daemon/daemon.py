# -*- test-case-name: tests.service.test_tap -*-
"""
The forwarder under twistd.

`Daemon` turns a start that fails into what twistd can report, and writes the last log lines when it stops.
`Announcing` logs that all is up.
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
from portfwd.service.daemon.garbage import kept
from portfwd.service.daemon.notify import STOP_MARGIN, Heartbeat, Notifier, status_of
from portfwd.service.daemon.pid_file import PidFile, remove_own_pid_file
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.session_log import LogInUse
from portfwd.values import counted

#: Seconds that the access log gets to write its last lines.
LAST_LINES: Final = 2.0


class Announcing(Service):
    """Tells the log that everything is up, once signals are obeyed: the last child, so started last."""

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
        """Repeat the warnings of the file, then say so when the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self.announce)

    def announce(self) -> None:
        """Log the warnings and that the listeners are ready; tell the service manager."""
        for warning in self._warnings:
            self._log.warn("{line}", line=warning)
        count = len(self._forwarder.addresses)
        self._log.info("portfwd is ready: {count}", count=counted(count, "listener"))
        if self.notifier is not None:
            self.notifier.ready(status_of(self._forwarder))


class Daemon(MultiService):
    """
    The forwarder under twistd.

    Its own work is to turn a start that fails into what twistd can report: in
    the foreground a line for each failure and exit status 1; as a daemon an exception,
    because leaving otherwise would hang the waiting parent.
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
        :param twistd_pid_file: written by then, and removed when a start in the foreground fails.
        :param event_log: None: events are twistd's to write.
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
        """See `IService`; an application that has an observer of events lets twistd make none."""
        super().setServiceParent(parent)
        if self._event_log is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._event_log)

    @kept()
    def privilegedStartService(self) -> None:
        """Bind."""
        if self._event_log is not None:
            self._event_log.begin()
        try:
            super().privilegedStartService()
        except StartError as problem:
            self._give_up(problem)

    @kept()
    def startService(self) -> None:
        """Accept."""
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
        # Of this text 100 bytes reach the terminal, the exception's name included.
        count = len(problem.failures)
        first = problem.failures[0]
        raise StartError([first if count == 1 else f"1 of {count}: {first}"]) from problem

    def stopService(self) -> Deferred[Any]:
        """Drain, then write the last access lines."""
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
        """What is done before a process ends that cannot stop in order."""
        self._withdraw_pid_file()
        remove_own_pid_file(self._twistd_pid_file)
        self._close_logs()
        if self._event_log is not None:
            self._event_log.flush()

    def _withdraw_pid_file(self) -> None:
        for service in self:
            if isinstance(service, PidFile):
                service.withdraw()
