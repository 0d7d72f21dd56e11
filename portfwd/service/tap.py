# -*- test-case-name: tests.service.test_tap -*-
"""
``twistd portfwd``: its options, and the service they make.

Everything that needs a file is read here: twistd changes its root, forks and
drops privileges after `makeService`.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from attrs import evolve
from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from portfwd.errors import Problem, RulesError, Severity, StartError
from portfwd.filters.registry import BUILT_IN
from portfwd.kernel.steady import steady
from portfwd.quantities import parse_duration
from portfwd.rules import combine, format_problem, load, parse_rule
from portfwd.rules.include import cannot_be_read
from portfwd.rules.load import RefusedFile
from portfwd.rules.model import Ruleset
from portfwd.rules.reading import Files
from portfwd.service.build.factories import Factories
from portfwd.service.build.judging import judge, matters_at_start, merged
from portfwd.service.daemon.daemon import Announcing, Daemon
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.event_log import event_log_for
from portfwd.service.daemon.garbage import FullRounds, kept
from portfwd.service.daemon.last_resort import LastResort
from portfwd.service.daemon.notify import Heartbeat, Notifier
from portfwd.service.daemon.pid_file import PidFile
from portfwd.service.daemon.reading import CachedFiles
from portfwd.service.daemon.rule_files import rule_files
from portfwd.service.daemon.signals import Signals
from portfwd.service.daemon.threads import do_not_join
from portfwd.service.operators.operators import add_operators
from portfwd.service.run.forwarder import DRAIN, Forwarder
from portfwd.service.run.reporting import add_reports
from portfwd.service.run.rereading import Confinement, Rereading
from portfwd.service.run.session_log import LogInUse
from portfwd.service.run.watching import RulesWatch
from portfwd.service.tls.certificate_watch import CertificateWatch
from portfwd.values import counted
from portfwd.version import __version__

#: Exit status of a rules file that is refused.
BAD_RULES: Final = 2

#: Modules of the standard library that are imported when they are first
#: needed, by us or by Twisted; after ``--chroot`` or ``--uid`` they may be out of reach.
LATE_MODULES: Final = (
    "encodings.idna",
    "fcntl",
    "resource",
    "termios",
)


class ForwarderOptions(UsageOptions):
    """The command line behind ``twistd portfwd``."""

    synopsis = "[twistd options] portfwd (--config FILE | --rule RULE ...) [--drain SECONDS]"
    longdesc = (
        "Forwards TCP, UDP, TLS, unix sockets and Twisted endpoints as a rules file says. "
        "'portfwd check FILE' judges a file without binding anything; "
        "'portfwd --help' lists what else there is."
    )

    optParameters = [  # noqa: RUF012 - twisted reads a plain list
        [
            "config",
            "c",
            None,
            "The rules file: native, rinetd's, rinetd-uv's, oxidinetd's or realm's.",
        ],
        [
            "drain",
            None,
            DRAIN,
            "How long sessions may go on after SIGTERM or SIGINT, for example 30s.",
            parse_duration,
        ],
    ]

    optFlags = [  # noqa: RUF012 - twisted reads a plain list
        ["allow-empty", None, "Take a rules file without any rule, at the start and at a reload."],
        ["watch", None, "Reload when the rules file, or a file that it includes, has changed (Linux)."],
    ]

    compData = None

    def __init__(self) -> None:
        super().__init__()
        self["rules"] = []

    def opt_rule(self, text: str) -> None:
        """Forward as RULE says, in the native grammar, for example ':8080 -> 10.0.0.5:80'. Repeatable."""
        self["rules"].append(text)

    opt_r = opt_rule

    def opt_version(self) -> None:
        """Print portfwd's version."""
        print(f"portfwd {__version__}")
        sys.exit(0)

    def parseArgs(self, *words: str) -> None:
        """Nothing stands by itself; a rules file that does has lost its ``-c``."""
        if words:
            raise UsageError(f"what is {words[0]!r}? A rules file needs -c before it, a rule --rule")

    def postOptions(self) -> None:
        """One source of rules is needed, and only one."""
        if bool(self["config"]) == bool(self["rules"]):
            raise UsageError("give a rules file (-c FILE) or rules (--rule '...'), one of the two")
        if self["watch"] and not self["config"]:
            raise UsageError("--watch needs a rules file (-c FILE)")
        install_reactor()


def install_reactor() -> None:
    """
    Install portfwd's own reactor, where there is epoll and no reactor was chosen (``twistd --reactor``).

    To be called before anything imports ``twisted.internet.reactor``, which installs one.
    """
    if "twisted.internet.reactor" not in sys.modules and hasattr(select, "epoll"):
        # Not to be had where there is no epoll.
        from portfwd.kernel.event_loop import install

        install()


#: twistd looks for this name.
Options = ForwarderOptions


def read_rules(
    options: ForwarderOptions,
    files: Files | None = None,
    factories: Factories | None = None,
    reactor: Any = None,
) -> Ruleset:
    """
    The rules that `options` name, with every warning about them.

    :param files: None for those of this machine.
    :param factories: get the factories of the rules' filters.
    :param reactor: see `judge`.
    :raises RulesError: with every problem of the text and of what its readable rules name.
    """
    files = DiskFiles() if files is None else files
    if options["config"]:
        path = os.path.abspath(options["config"])
        try:
            ruleset = load(path, files, allow_empty=bool(options["allow-empty"]))
        except RefusedFile as refusal:
            ruleset = refusal.readable
    else:
        ruleset = _parse_all(options["rules"], files)
    selection = (Factories() if factories is None else factories).select()
    found = filter(matters_at_start, judge(ruleset, selection, reactor))
    problems = merged(ruleset.warnings, found, ruleset.files)
    if any(problem.severity is Severity.ERROR for problem in problems):
        raise RulesError(problems)
    return evolve(ruleset, warnings=problems)


def _parse_all(texts: Sequence[str], files: Files) -> Ruleset:
    """Every rule of the command line that can be read; the problems of all of them are its warnings."""
    rulesets: list[Ruleset] = []
    for number, text in enumerate(texts, 1):
        name = "--rule" if len(texts) == 1 else f"--rule #{number}"
        try:
            rulesets.append(parse_rule(text, name, files))
        except RefusedFile as refusal:
            rulesets.append(refusal.readable)
    try:
        return combine(*rulesets)
    except RefusedFile as refusal:
        return refusal.readable


@kept()
def makeService(options: ForwarderOptions) -> IService:
    """
    The service of a command line.

    Prints every problem of bad rules and leaves with status 2; with 1 if their file cannot be read.
    """
    try:
        os.getcwd()
    except OSError as problem:
        # Names without a "/" in front, of files and in rules, would mean nothing.
        print(f"portfwd: the working directory cannot be used: {problem.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    from twisted.internet import reactor

    files, factories = CachedFiles(DiskFiles()), Factories()
    if options["watch"]:
        files.take(os.path.abspath(options["config"]))
    try:
        ruleset = read_rules(options, files, factories, reactor)
    except RulesError as problem:
        problems = problem.problems
        _print(problems)
        unread = options["config"] and cannot_be_read(os.path.abspath(options["config"]), problems)
        raise SystemExit(1 if unread else BAD_RULES) from None
    warnings = [f"{one.location}: {one.message}" for one in ruleset.warnings]
    _print(ruleset.warnings)
    return _assemble(options, ruleset, warnings, files, factories)


def _print(problems: Sequence[Problem]) -> None:
    for problem in problems:
        print(format_problem(problem), file=sys.stderr)
    errors = sum(one.severity is Severity.ERROR for one in problems)
    if errors:
        print(f"portfwd: {counted(errors, 'error')}, nothing was started", file=sys.stderr)


def load_late_modules(*, filters: bool = False) -> None:
    """
    Import `LATE_MODULES`; what this platform lacks is not needed on it.

    :param filters: those that portfwd brings as well, because a reload may be the first to name them.
    """
    brought = [module.partition(":")[0] for module in BUILT_IN.values()] if filters else []
    for name in (*LATE_MODULES, *brought):
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def _assemble(
    options: ForwarderOptions, ruleset: Ruleset, warnings: list[str], files: CachedFiles, factories: Factories
) -> IService:
    from twisted.internet import reactor

    do_not_join(reactor)
    parent: Mapping[str, Any] = options.parent or {}
    load_late_modules(filters=any(parent.get(name) for name in ("chroot", "uid", "gid")))
    foreground = bool(parent.get("nodaemon", True))
    steady_reactor = steady(reactor)
    try:
        event_log = event_log_for(parent)
    except OSError as problem:
        print(f"portfwd: twistd's log {problem.filename}: {problem.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    session_log = LogInUse(ruleset.log, foreground=foreground, clock=steady_reactor)
    told = [one.location for one in ruleset.warnings if matters_at_start(one)]
    if session_log.warning and ruleset.log.where not in told:
        print(f"portfwd: {session_log.warning}", file=sys.stderr)
        warnings.append(session_log.warning)
    last_resort = LastResort(lambda: daemon.write_last())
    try:
        forwarder = Forwarder(
            steady_reactor,
            ruleset,
            session_log.log,
            drain=options["drain"],
            making=kept,
            lost=last_resort.lost,
            factories=factories,
        )
    except StartError as problem:
        for line in problem.failures:
            print(f"portfwd: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    notifier = Notifier()
    heartbeat = Heartbeat(steady_reactor, notifier, forwarder)
    daemon = Daemon(
        forwarder,
        session_log,
        foreground=foreground,
        twistd_pid_file=parent.get("pidfile") or None,
        heartbeat=heartbeat,
        notifier=notifier,
        event_log=event_log,
    )

    chroot = os.path.abspath(parent["chroot"]) if parent.get("chroot") else ""
    path = os.path.abspath(options["config"]) if options["config"] else None
    confinement = Confinement(chroot, os.getcwd(), os.geteuid())
    rereading = Rereading(
        steady_reactor,
        forwarder,
        path,
        session_log,
        notifier=notifier,
        confinement=confinement,
        making=kept,
        allow_empty=bool(options["allow-empty"]),
    )
    rereading.setServiceParent(daemon)

    def reopen() -> None:
        forwarder.sinks.reopen()
        session_log.reopen()
        if event_log is not None:
            event_log.reopen()

    signals = Signals(steady_reactor, forwarder, reopen, rereading.reload, last_resort.force_exit)
    signals.setServiceParent(daemon)
    try:
        rereading.renewals = [
            forwarder.renew_metrics,
            *add_operators(
                daemon, ruleset, forwarder, steady_reactor, reload=rereading.reload, stop=signals.stop
            ),
        ]
    except StartError as problem:
        for line in problem.failures:
            print(f"portfwd: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    add_reports(daemon, ruleset, forwarder, steady_reactor)
    if ruleset.pid_file is not None:
        PidFile(os.path.abspath(ruleset.pid_file)).setServiceParent(daemon)
    heartbeat.setServiceParent(daemon)
    FullRounds(
        steady_reactor, lambda: len(forwarder.every_rule), lambda: forwarder.session_count
    ).setServiceParent(daemon)
    if options["watch"] and path is not None:
        at_work = rule_files(path, files).digest
        visible = partial(confinement.visible, path)
        RulesWatch(steady_reactor, visible, DiskFiles(), at_work, rereading.reload).setServiceParent(daemon)
    CertificateWatch(steady_reactor, lambda: forwarder.rules).setServiceParent(daemon)
    Announcing(steady_reactor, forwarder, warnings, notifier).setServiceParent(daemon)
    service: IService = daemon
    return service
