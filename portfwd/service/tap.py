# -*- test-case-name: tests.service.test_tap -*-
"""
``twistd portfwd``: its options and its service.

All files are read here, because twistd changes its root, forks and drops privileges after `makeService`.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
from collections.abc import Sequence
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
from portfwd.service.daemon.garbage import FullRounds, collector_off
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

#: Exit status after refused rules.
BAD_RULES: Final = 2

#: twistd's pid file, in its working directory, unless ``--pidfile`` names another one.
TWISTD_PID_FILE: Final = "twistd.pid"

#: Modules of the standard library that portfwd or Twisted import on first use. After ``--chroot`` or
#: ``--uid`` they may not be readable.
LATE_MODULES: Final = (
    "encodings.idna",
    "fcntl",
    "resource",
    "termios",
)


class ForwarderOptions(UsageOptions):
    """The command line after ``twistd portfwd``."""

    synopsis = "[twistd options] portfwd (--config FILE | --rule RULE ...) [--drain SECONDS]"
    longdesc = (
        "Forwards TCP, UDP, TLS, unix sockets and Twisted endpoints by a rules file. "
        "'portfwd check FILE' checks a file without binding anything; "
        "'portfwd --help' lists the other commands."
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
            "How long sessions may continue after SIGTERM or SIGINT, for example 30s.",
            parse_duration,
        ],
    ]

    optFlags = [  # noqa: RUF012 - twisted reads a plain list
        ["allow-empty", None, "Accept a rules file without rules, at the start and at a reload."],
        ["watch", None, "Reload after changes of the rules file or of included files (Linux)."],
    ]

    compData = None

    def __init__(self) -> None:
        super().__init__()
        self["rules"] = []

    def opt_rule(self, text: str) -> None:
        """A rule in the native grammar, for example ':8080 -> 10.0.0.5:80'. Repeatable."""
        self["rules"].append(text)

    opt_r = opt_rule

    def opt_version(self) -> None:
        """Print portfwd's version."""
        print(f"portfwd {__version__}")
        sys.exit(0)

    def parseArgs(self, *words: str) -> None:
        """Refuse positional arguments, which are usually a rules file without ``-c``."""
        if words:
            raise UsageError(f"unexpected argument {words[0]!r}: write -c FILE or --rule RULE")

    def postOptions(self) -> None:
        """Check that there is exactly one source of rules, and install the reactor."""
        if bool(self["config"]) == bool(self["rules"]):
            raise UsageError("give either a rules file (-c FILE) or rules (--rule '...')")
        if self["watch"] and not self["config"]:
            raise UsageError("--watch needs a rules file (-c FILE)")
        install_reactor()


def install_reactor() -> None:
    """
    Install portfwd's reactor if the platform has epoll and no reactor was chosen (``twistd --reactor``).

    Call it before the first import of ``twisted.internet.reactor``, which installs a reactor.
    """
    if "twisted.internet.reactor" not in sys.modules and hasattr(select, "epoll"):
        # The module needs epoll.
        from portfwd.kernel.event_loop import install

        install()


#: twistd uses this name.
Options = ForwarderOptions


def read_rules(
    options: ForwarderOptions,
    files: Files | None = None,
    factories: Factories | None = None,
    reactor: Any = None,
) -> Ruleset:
    """
    Read the rules of `options`, with all warnings.

    :param files: None for the file system.
    :param factories: receives the factories of the rules' filters.
    :param reactor: see `judge`.
    :raises RulesError: with all problems of the text and of the files and filters that its readable rules
        name.
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
    """The rules of the command line that can be read. The problems of all rules are in ``warnings``."""
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


@collector_off()
def makeService(options: ForwarderOptions) -> IService:
    """
    Make the service of a command line.

    :raises SystemExit: after printing all problems; with 2 if the rules are wrong, with 1 if their file
        cannot be read or the start failed otherwise.
    """
    try:
        os.getcwd()
    except OSError as problem:
        # Relative paths on the command line and in rules could not be resolved.
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
    Import `LATE_MODULES`. Modules that the platform does not have are skipped, because they are not used on
    it.

    :param filters: whether to import the built-in filters too, because a reload may name them for the first
        time.
    """
    built_in = [module.partition(":")[0] for module in BUILT_IN.values()] if filters else []
    for name in (*LATE_MODULES, *built_in):
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def _assemble(
    options: ForwarderOptions, ruleset: Ruleset, warnings: list[str], files: CachedFiles, factories: Factories
) -> IService:
    from twisted.internet import reactor

    do_not_join(reactor)
    parent: dict[str, Any] = {} if options.parent is None else options.parent
    if ruleset.pid_file is not None and parent.get("pidfile") == os.path.abspath(TWISTD_PID_FILE):
        # The file of `pidlogfile` replaces twistd's. twistd writes its own after `makeService`.
        parent["pidfile"] = ""
    load_late_modules(filters=any(parent.get(name) for name in ("chroot", "uid", "gid")))
    foreground = bool(parent.get("nodaemon", True))
    steady_reactor = steady(reactor)
    try:
        event_log = event_log_for(parent)
    except OSError as problem:
        print(f"portfwd: twistd's log {problem.filename}: {problem.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    session_log = LogInUse(ruleset.log, foreground=foreground, clock=steady_reactor)
    reported = [one.location for one in ruleset.warnings if matters_at_start(one)]
    if session_log.warning and ruleset.log.where not in reported:
        print(f"portfwd: {session_log.warning}", file=sys.stderr)
        warnings.append(session_log.warning)
    last_resort = LastResort(lambda: daemon.write_last())
    try:
        forwarder = Forwarder(
            steady_reactor,
            ruleset,
            session_log.log,
            drain=options["drain"],
            making=collector_off,
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
        making=collector_off,
        allow_empty=bool(options["allow-empty"]),
    )
    rereading.setServiceParent(daemon)

    def reopen() -> None:
        forwarder.sinks.reopen()
        if (found := session_log.reopen()) is not None:
            forwarder.use_log(found)
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
        digest = rule_files(path, files).digest
        visible = partial(confinement.visible, path)
        RulesWatch(steady_reactor, visible, DiskFiles(), digest, rereading.reload).setServiceParent(daemon)
    CertificateWatch(steady_reactor, lambda: forwarder.rules).setServiceParent(daemon)
    Announcing(steady_reactor, forwarder, warnings, notifier).setServiceParent(daemon)
    service: IService = daemon
    return service
