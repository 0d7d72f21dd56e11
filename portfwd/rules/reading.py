# -*- test-case-name: tests.rules.test_load -*-
"""
What is known so far while a file and its includes are read.

`Reading` lasts from the first line to the finished `Ruleset`; `FileScope` is
one file of it. Readers of lines write here. It refuses to read anything itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import Factory, define

from portfwd.errors import Location
from portfwd.rules.addresses import PortOfService
from portfwd.rules.draft import RuleDraft, Settings
from portfwd.rules.findings import Findings
from portfwd.rules.model import NOWHERE, AccessLogFormat, AclEntry, Directive, LogSpec


class Files(Protocol):
    """
    The files, as far as rules see them; paths are text, relative ones as the caller means them.

    `portfwd.service.daemon.disk.DiskFiles` is the real one.
    """

    def read(self, path: str) -> str:
        """
        The text of a file.

        :raises OSError: when it cannot be read.
        :raises portfwd.errors.RulesError: when it is too large or not UTF-8.
        """

    def glob(self, pattern: str, beside: str) -> list[str]:
        """The files that match `pattern`, relative to the file `beside`, in alphabetical order."""

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """The port of a service (``http``) for ``tcp`` or ``udp``, or None."""


@define
class LogState:
    """
    What the lines about the log have said.

    :ivar access: of ``log access=`` or ``logcommon``.
    :ivar file: of ``log file=`` or ``logfile``.
    :ivar rinetd: whether ``logfile`` said it, so that rinetd's form is meant.
    :ivar probes: of ``log probes=``.
    :ivar repeats: of ``log repeats=``.
    :ivar opened: of ``log opened=``.
    :ivar where: the last line that said something.
    """

    access: AccessLogFormat | None = None
    file: str | None = None
    rinetd: bool = False
    probes: bool = True
    repeats: bool = False
    opened: bool = False
    where: Location | None = None

    def spec(self) -> LogSpec:
        """The value of it all."""
        access = self.access
        if access is None and self.rinetd:
            access = AccessLogFormat.RINETD
        where = NOWHERE if self.where is None else self.where
        return LogSpec(access, self.file, where, probes=self.probes, repeats=self.repeats, opened=self.opened)


@define
class FileScope:
    """
    One file of a reading.

    :ivar name: its path as messages show it.
    :ivar chain: the paths of the files that include each other down to this one, this one last.
    :ivar defaults: what ``default`` lines say up to here; replaced, never changed.
    :ivar plain: whether only rules of four words and access lines of two were seen.
    :ivar late_access: the first access line after a rule.
    :ivar foreign_access: whether an access line for another file's rule was warned about.
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

    :ivar files: where includes come from; None when the rules are not in a file.
    :ivar services: asks for the port of a service; None where nothing can be asked.
    :ivar current: the last rule read, to which access lines and clauses belong.
    :ivar open: whether clauses may still follow `current`.
    :ivar settings: options for all rules, wherever they stand: rinetd-uv's global directives.
    :ivar said: where each directive that replaces an earlier one was said.
    :ivar good_patterns: of access lines, so that what every rule repeats is checked once.
    :ivar values: of options, by name and text, for the same reason; all of them are immutable.
    """

    files: Files | None
    services: PortOfService | None = None
    findings: Findings = Factory(Findings)
    drafts: list[RuleDraft] = Factory(list)
    current: RuleDraft | None = None
    open: bool = False
    access: list[AclEntry] = Factory(list)
    log: LogState = Factory(LogState)
    pid_file: str | None = None
    directives: list[Directive] = Factory(list)
    paths: list[str] = Factory(list)
    settings: Settings = Factory(dict)
    said: dict[str, Location] = Factory(dict)
    good_patterns: set[str] = Factory(set)
    values: dict[tuple[str, str], Any] = Factory(dict)

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """The port of a service; None where nothing can be asked."""
        return None if self.services is None else self.services(name, protocol)

    def add(self, draft: RuleDraft) -> None:
        """Take a rule; a broken one only gathers what is beneath it."""
        self.current = draft
        self.open = True
        if not draft.broken:
            self.drafts.append(draft)

    def say(self, name: str, where: Location) -> None:
        """Note that `name` was said, and warn if it replaces what was said before."""
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
        """Set an option for all rules that do not say otherwise."""
        self.settings = {**self.settings, name: (value, where)}
