# -*- test-case-name: tests.rules.test_load -*-
"""
The state of reading a file and its includes.

A `Reading` exists from the first line to the finished `Ruleset`; a `FileScope` is one file of it. Readers of
lines store their results here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from attrs import Factory, define

from portfwd.errors import Location
from portfwd.rules.addresses import PortOfService
from portfwd.rules.draft import RuleDraft, Settings
from portfwd.rules.findings import Findings
from portfwd.rules.model import NOWHERE, AccessLogFormat, AclEntry, Directive, LogSpec


class Files(Protocol):
    """
    Access to files for the readers. Paths are text; the implementation decides what relative ones mean.

    `portfwd.service.daemon.disk.DiskFiles` is the real implementation.
    """

    def read(self, path: str) -> str:
        """
        The text of a file.

        :raises OSError: it cannot be read.
        :raises portfwd.errors.RulesError: it is too large or not UTF-8.
        """

    def glob(self, pattern: str, beside: str) -> list[str]:
        """The files that match `pattern`, relative to the file `beside`, in alphabetical order."""

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """The port of a service (``http``) for ``tcp`` or ``udp``; None if unknown."""


@define
class LogState:
    """
    The settings of the log so far.

    :ivar access: of ``log access=`` or ``logcommon``.
    :ivar file: of ``log file=`` or ``logfile``.
    :ivar rinetd: whether ``logfile`` was used, so rinetd's format is meant.
    :ivar probes: of ``log probes=``.
    :ivar repeats: of ``log repeats=``.
    :ivar opened: of ``log opened=``.
    :ivar where: the last line with a setting.
    """

    access: AccessLogFormat | None = None
    file: str | None = None
    rinetd: bool = False
    probes: bool = True
    repeats: bool = False
    opened: bool = False
    where: Location | None = None

    def spec(self) -> LogSpec:
        """The resulting value."""
        access = self.access
        if access is None and self.rinetd:
            access = AccessLogFormat.RINETD
        where = NOWHERE if self.where is None else self.where
        return LogSpec(access, self.file, where, probes=self.probes, repeats=self.repeats, opened=self.opened)


@define
class StatusState:
    """
    What rinetd-uv's lines about its status file and its statistics have said.

    :ivar file: of ``statusfile``.
    :ivar interval: of ``statusinterval``, in seconds; 0: the file is not written.
    :ivar form: of ``statusformat``.
    :ivar log_interval: of ``statsloginterval``, in seconds; 0: nothing is logged.
    :ivar where: the line of the file.
    :ivar log_where: the line of the statistics.
    """

    file: str = ""
    interval: int | None = None
    form: str = ""
    log_interval: int = 0
    where: Location = NOWHERE
    log_where: Location = NOWHERE

    def directives(self) -> Iterator[Directive]:
        """The native lines that say the same."""
        if self.file and self.interval != 0:
            options = [] if self.interval is None else [("interval", f"{self.interval}s")]
            options += [("format", self.form)] if self.form else []
            yield Directive("status-file", (self.file,), tuple(options), self.where)
        if self.log_interval:
            options = [("interval", f"{self.log_interval}s")]
            yield Directive("stats-log", (), tuple(options), self.log_where)


@define
class FileScope:
    """
    One file of a reading.

    :ivar name: its path in messages.
    :ivar chain: paths of the including files, outermost first, and its own path last.
    :ivar defaults: the options of ``default`` lines so far. The mapping is replaced, never modified.
    :ivar plain: whether there were only rules of four words and access lines of two.
    :ivar late_access: the first access line after a rule.
    :ivar foreign_access: whether an access line for a rule of another file was reported.
    """

    name: str
    chain: tuple[str, ...]
    defaults: Settings = Factory(dict)
    plain: bool = True
    late_access: Location | None = None
    foreign_access: bool = False


@define
class Reading:
    """
    One reading of a file and its includes.

    :ivar files: access to includes; None if the rules are not in a file.
    :ivar services: returns the port of a service; None if unavailable.
    :ivar current: the last rule, to which access lines and clauses belong.
    :ivar open: whether clauses may still follow `current`.
    :ivar settings: options of all rules, from rinetd-uv's global directives.
    :ivar said: places of directives that replace earlier ones.
    :ivar good_patterns: valid patterns of access lines, so patterns that many rules repeat are checked once.
    :ivar values: values of options by name and text, for the same reason. All of them are immutable.
    """

    files: Files | None
    services: PortOfService | None = None
    findings: Findings = Factory(Findings)
    drafts: list[RuleDraft] = Factory(list)
    current: RuleDraft | None = None
    open: bool = False
    access: list[AclEntry] = Factory(list)
    log: LogState = Factory(LogState)
    status: StatusState = Factory(StatusState)
    pid_file: str | None = None
    directives: list[Directive] = Factory(list)
    paths: list[str] = Factory(list)
    settings: Settings = Factory(dict)
    said: dict[str, Location] = Factory(dict)
    good_patterns: set[str] = Factory(set)
    values: dict[tuple[str, str], Any] = Factory(dict)

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """The port of a service; None if unknown."""
        return None if self.services is None else self.services(name, protocol)

    def add(self, draft: RuleDraft) -> None:
        """Add a rule. A broken one only collects the lines beneath it."""
        self.current = draft
        self.open = True
        if not draft.broken:
            self.drafts.append(draft)

    def say(self, name: str, where: Location) -> None:
        """Record the directive `name`, and warn if it replaces an earlier one."""
        before = self.said.get(name)
        if before is not None:
            self.findings.warning(
                where,
                "repeated-directive",
                f"this replaces '{name}' of {before.file}:{before.line}",
                "delete one of them",
            )
        self.said[name] = where

    def with_setting(self, name: str, value: object, where: Location) -> None:
        """Set an option for all rules that do not set it themselves."""
        self.settings = {**self.settings, name: (value, where)}
