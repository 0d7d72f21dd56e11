# -*- test-case-name: tests.service.run.test_reporting -*-
"""
Writes the status file of a ``status-file`` line, and the line of statistics of ``stats-log``.

Figures are read in slices, as for a page of metrics, and the file is written by a thread, so a disk that
hangs stops nothing. A new file takes the place of the last one at once. Nothing is begun before the last
report is written. The file stays when the service stops; its timestamp says how old it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import reason_of
from portfwd.kernel.reactor import Reactor
from portfwd.logs.fields import utc_time
from portfwd.metrics.figures import Figures
from portfwd.metrics.status_report import RuleFacts, json_text, make_report, plain_text, stats_line
from portfwd.quantities import MAX_DURATION
from portfwd.relay.live import LiveRule
from portfwd.rules.model import DATAGRAM_KINDS, Balance, Kind, Ruleset
from portfwd.rules.status_lines import StatusFileSpec, StatusFormat, stats_interval, status_file
from portfwd.rules.steps import Steps
from portfwd.service.daemon.reading import in_thread
from portfwd.service.daemon.slices import Slices
from portfwd.service.run.measuring import Measured, measure
from portfwd.values import InetAddress
from portfwd.version import __version__

_UNIX = (Kind.UNIX, Kind.TLS_UNIX, Kind.UNIX_DATAGRAM)

Report = dict[str, Any]


class Reported(Measured, Protocol):
    """What is asked of a forwarder."""


def rule_facts(lives: Iterable[LiveRule]) -> dict[str, RuleFacts]:
    """What a report says of each rule by its name; of several that have one the first counts."""
    found: dict[str, RuleFacts] = {}
    for live in lives:
        rule, balance = live.rule, live.options.balance
        protocol = "unix" if rule.targets[0].kind in _UNIX else "tcp"
        if rule.listen.kind in DATAGRAM_KINDS:
            protocol = "udp"
        hosts = {
            one.label: one.address.host
            for one in live.every_destination
            if isinstance(one.address, InetAddress)
        }
        algorithm = "iphash" if balance is Balance.SOURCE else balance.value
        found.setdefault(live.name, RuleFacts(protocol, algorithm, hosts))
    return found


def replace_file(path: str, text: str, mode: int) -> None:
    """
    Put a new file in the place of the one at `path`: whoever reads sees the one or the other as a whole.

    :param mode: its permission bits, whatever the umask is.
    :raises OSError: it cannot be done, or something else than a regular file is there; nothing is left of it
        then.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    directory, name = os.path.split(path)
    part = os.path.join(directory, f".{name}.{secrets.token_hex(8)}")
    # Exclusive: in a directory like /tmp nobody can have put a link there.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


class StatusReports(Service):
    """Both, for one forwarder."""

    name = "portfwd reports"
    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        forwarder: Reported,
        file: StatusFileSpec | None,
        log_interval: float | None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """:param file: its path is made absolute here: twistd changes directory later."""
        self._reactor = reactor
        self._forwarder = forwarder
        self._file = file
        self._path = "" if file is None else os.path.abspath(file.path)
        self._log_interval = log_interval
        self._wall_clock = wall_clock
        self._loops: list[LoopingCall] = []
        self._started_at = self._started = 0.0
        self._problem = ""

    def __repr__(self) -> str:
        return f"<StatusReports {self._path or 'no file'}, log every {self._log_interval or 0:g} s>"

    def startService(self) -> None:
        """Write the file now and then, and a line of statistics after each interval."""
        super().startService()
        self._started_at, self._started = self._wall_clock(), self._reactor.seconds()
        if self._file is not None:
            self._repeat(self._write, self._file.interval, now=True)
        if self._log_interval is not None:
            self._repeat(self._tell, self._log_interval, now=False)

    def _repeat(self, report: Callable[[], Deferred[None]], interval: float, *, now: bool) -> None:
        loop = LoopingCall(report)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(interval, now=now)

    def stopService(self) -> None:
        """Write no more."""
        super().stopService()
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.stop()

    def _make(self) -> Deferred[Report]:
        return Slices(self._reactor, self._steps()).start()

    def _steps(self) -> Steps[Report]:
        figures = Figures(version=__version__, started_at=self._started_at)
        yield from measure(self._forwarder, figures)
        since = figures.reloaded_at or self._started_at
        return make_report(
            figures,
            rule_facts(self._forwarder.every_rule),
            timestamp=_utc_second(self._wall_clock()),
            uptime=self._reactor.seconds() - self._started,
            since=_utc_second(since),
        )

    def _tell(self) -> Deferred[None]:
        told = self._make().addCallback(lambda report: self._log.info("{line}", line=stats_line(report)))
        return told.addErrback(self._broke)

    def _write(self) -> Deferred[None]:
        return self._make().addCallback(self._write_report).addErrback(self._broke)

    def _write_report(self, report: Report) -> Deferred[None]:
        file = self._file
        if file is None or not self.running:
            return succeed(None)
        text = json_text(report) if file.format is StatusFormat.JSON else plain_text(report)
        # Without a limit of time: while one thread waits for the disk, there is no second one.
        written = in_thread(self._reactor, partial(replace_file, self._path, text, file.mode), MAX_DURATION)
        return written.addCallbacks(self._written, self._not_written)

    def _written(self, _: object) -> None:
        if self._problem:
            self._problem = ""
            self._log.info("status file {path}: written again", path=self._path)

    def _not_written(self, failure: Failure) -> None:
        failure.trap(OSError)
        assert failure.value is not None
        problem = reason_of(failure.value)
        if problem != self._problem:
            self._problem = problem
            self._log.warn("status file {path}: {problem}", path=self._path, problem=problem)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("a status report failed", failure)


def _utc_second(epoch: float) -> str:
    return utc_time(int(epoch)).replace(".000Z", "Z")


def add_reports(parent: MultiService, ruleset: Ruleset, forwarder: Reported, reactor: Reactor) -> None:
    """Give `parent` the service that writes what `ruleset` asks for, if it does."""
    file, interval = status_file(ruleset), stats_interval(ruleset)
    if file is not None or interval is not None:
        StatusReports(reactor, forwarder, file, interval).setServiceParent(parent)
