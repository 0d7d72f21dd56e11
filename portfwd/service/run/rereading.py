# -*- test-case-name: tests.service.run.test_rereading -*-
"""
Reads the rules file again while the forwarder runs, for SIGHUP and for operators.

The file is read in slices, its log is opened, and the forwarder changes to the new rules. If anything fails,
everything stays as it is, and the log names the line. Rules of the command line are not read again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import Problem, RulesError, Severity
from portfwd.kernel.reactor import Reactor
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.load import load_in_steps
from portfwd.rules.model import Ruleset
from portfwd.rules.reading import Files
from portfwd.rules.steps import Steps
from portfwd.rules.support import everything_wrong_in_steps
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.garbage import Making, collector_unchanged
from portfwd.service.daemon.notify import Notifier, status_of
from portfwd.service.daemon.reading import files_of, fill_page_cache, in_thread, read_in_thread
from portfwd.service.daemon.slices import Slices
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.reload import ReloadResult
from portfwd.service.run.session_log import LogInUse, Silent, describe, try_log

NO_FILE: Final = "these rules came from the command line (--rule): there is no file to read again; restart it"

ACCIDENT: Final = "an error in portfwd itself, or in a filter; the log has the traceback"

#: Hint for failures that may be caused by a change of root or working directory.
OUT_OF_REACH: Final = ("cannot be read", "No such file", "Permission denied", "there is no filter")

T = TypeVar("T")


@frozen
class Confinement:
    """
    Restrictions of this process since its start, which may make a reload fail.

    :ivar chroot: directory of ``twistd --chroot``, or empty.
    :ivar directory: working directory in which the rules were first read.
    :ivar user: number of the user that has read them; None if irrelevant.
    """

    chroot: str = ""
    directory: str = ""
    user: int | None = None

    def visible(self, path: str) -> str:
        """The current name of `path` from before the change of root."""
        root = os.path.normpath(self.chroot) if self.chroot else "/"
        inside = root != "/" and os.path.commonpath([root, os.path.normpath(path)]) == root
        return "/" + os.path.relpath(path, root) if inside else path

    def notes(self) -> list[str]:
        """The reason why a file may not be accessible any more."""
        notes = []
        if self.chroot:
            notes.append(
                f"this process sees only what is beneath {self.chroot} (--chroot): other files need a restart"
            )
        elif self.directory and self.directory != _here():
            notes.append(
                f"this process works in {_here()} now and not in {self.directory} (--rundir):"
                " write file names from the root on"
            )
        if self.user not in (None, os.geteuid()):
            notes.append(
                f"this process is user {os.geteuid()} now and not {self.user} (--uid):"
                " what that user may not read, write or make needs other permissions, or a restart"
            )
        return notes


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "a directory that is gone"


@frozen
class Mistakes:
    """A file that cannot be used: its problems, and its errors as log lines."""

    problems: tuple[Problem, ...]
    failures: tuple[str, ...]


def _read(path: str, files: Files, allow_empty: bool) -> Steps[Ruleset | Mistakes]:
    """Read a file in steps of one line or rule, also if it has errors."""
    try:
        return (yield from load_in_steps(path, files, allow_empty=allow_empty))
    except RulesError as refused:
        problems = yield from everything_wrong_in_steps(refused)
    failures = []
    for problem in problems:
        if problem.severity is Severity.ERROR:
            failures.append(format_problem(problem))
        yield
    return Mistakes(problems, tuple(failures))


class Rereading(Service):
    """Reads the rules file again on request, one reload after the other."""

    name = "portfwd rereading"

    def __init__(
        self,
        reactor: Reactor,
        forwarder: Forwarder,
        path: str | None,
        log: LogInUse,
        *,
        notifier: Notifier | None = None,
        confinement: Confinement | None = None,
        making: Making = collector_unchanged,
        files: Files | None = None,
        allow_empty: bool = False,
    ) -> None:
        """
        :param allow_empty: whether to apply a file without rules.
        :param path: absolute path; None if the rules have no file.
        :param making: see `Forwarder`.
        :param files: access to files; None for those of this machine.
        """
        self._reactor = reactor
        self._forwarder = forwarder
        self._path = path
        self.session_log = log
        self.notifier = Notifier({}) if notifier is None else notifier
        self.confinement = Confinement() if confinement is None else confinement
        self._making = making
        self._files: Files = DiskFiles() if files is None else files
        self._allow_empty = allow_empty
        self._turn = DeferredLock()
        #: Requests that share a reload that has not begun: whether it is a dry run, and with code.
        self._waiting: dict[tuple[bool, bool], list[Deferred[ReloadResult]]] = {}
        self._reading: Slices[Any] | None = None
        self._longest = 0.0
        #: Functions that make missing files of operators' sockets again; each returns its failures.
        self.renewals: Sequence[Callable[[], Iterable[str]]] = ()
        self._log = Logger()

    def __repr__(self) -> str:
        return f"<Rereading {self._path} {'under way' if self._turn.locked else 'idle'}>"

    def reload(self, dry_run: bool = False, code: bool = False) -> Deferred[ReloadResult]:
        """
        Read the file and apply it.

        At most one reload runs and one waits; further requests share the waiting one.

        :param dry_run: only check whether it could be applied.
        :param code: see `Forwarder.reload`.
        :returns: fires with the result, which was logged.
        """
        asked = (dry_run, code)
        waiting = self._waiting.get(asked)
        if waiting is not None:
            shared: Deferred[ReloadResult] = Deferred()
            waiting.append(shared)
            return shared
        also = self._waiting[asked] = []

        def begin() -> Deferred[ReloadResult]:
            del self._waiting[asked]
            return Deferred.fromCoroutine(self._reload(dry_run, code))

        def over(result: ReloadResult | Failure) -> ReloadResult | Failure:
            for one in also:
                one.callback(result)
            return result

        return self._turn.run(begin).addBoth(over)

    def stopService(self) -> None:
        """Stop reading."""
        super().stopService()
        if self._reading is not None:
            self._reading.give_up()

    async def _reload(self, dry_run: bool, code: bool) -> ReloadResult:
        begun = time.monotonic()
        if not dry_run:
            self.notifier.reloading()
        with self._making(lambda: len(self._forwarder.ruleset.rules)):
            try:
                result = await self._read_and_change(dry_run, code)
            except GeneratorExit:
                raise  # no caller waits for it any more
            except BaseException:
                # Any exception, for example of a third-party filter. The caller and systemd must get a
                # result.
                self._log.failure("reload: an accident")
                result = self._refused(dry_run, ACCIDENT)
        if result.applied:
            result = evolve(result, notes=(*result.notes, *self._renewed()))
        result = evolve(result, seconds=time.monotonic() - begun)
        if result.refused:
            result = evolve(result, notes=(*result.notes, *self._hints(result)))
        self._tell(result)
        if not dry_run and self.running and self._forwarder.running:
            self.notifier.ready(status_of(self._forwarder))
        return result

    def _renewed(self) -> list[str]:
        try:
            return [note for renew in self.renewals for note in renew()]
        except Exception:
            self._log.failure("reload: making the files of operators' sockets again failed")
            return []

    def _hints(self, result: ReloadResult) -> list[str]:
        out_of_reach = any(word in line for line in result.failures for word in OUT_OF_REACH)
        return self.confinement.notes() if out_of_reach else []

    async def _read_and_change(self, dry_run: bool, code: bool) -> ReloadResult:
        if self._path is None:
            return self._refused(dry_run, NO_FILE)
        path = self.confinement.visible(self._path)
        try:
            files = await read_in_thread(self._reactor, path, self._files)
        except TimeoutError as problem:
            return self._refused(dry_run, f"{path}, or a file that it includes: {problem.strerror}")
        if not self.running:
            return self._refused(dry_run, "the forwarder is stopping")
        self._longest = 0.0
        try:
            found = await self._in_slices(_read(path, files, self._allow_empty))
            if isinstance(found, Mistakes):
                return self._refused(dry_run, *found.failures, problems=found.problems)
            named = await self._in_slices(files_of(found))
            await in_thread(self._reactor, partial(fill_page_cache, named))
        except CancelledError:
            return self._refused(dry_run, "the forwarder is stopping")
        except TimeoutError as problem:
            return self._refused(dry_run, f"a file that the rules name: {problem.strerror}")
        result = await self._change(found, dry_run, code)
        return evolve(
            result,
            problems=(*found.warnings, *result.problems),
            longest=max(self._longest, result.longest),
        )

    async def _in_slices(self, steps: Steps[T]) -> T:
        self._reading = work = Slices(self._reactor, steps)
        try:
            return await work.start()
        finally:
            self._longest = max(self._longest, work.longest)
            self._reading = None

    async def _change(self, ruleset: Ruleset, dry_run: bool, code: bool) -> ReloadResult:
        if ruleset.log == self.session_log.spec:
            if (
                self.session_log.is_missing
                and not dry_run
                and (found := self.session_log.reopen()) is not None
            ):
                self._forwarder.use_log(found)
            return await self._forwarder.reload(ruleset, dry_run, code=code)
        try:
            if dry_run:
                try_log(ruleset.log)
            else:
                opened = self.session_log.open_other(ruleset.log)
        except OSError as problem:
            line = f"{describe(ruleset.log, problem)} ({ruleset.log.where}); the old log stays in use"
            return self._refused(dry_run, line)
        if dry_run:
            return await self._forwarder.reload(ruleset, dry_run, code=code)
        log, writer = opened
        applied = False
        try:
            result = await self._forwarder.reload(ruleset, log=Silent() if log is None else log, code=code)
            applied = result.applied
        finally:
            if not applied and writer is not None:
                writer.close(0)
        if not applied:
            return result
        try:
            warning = self.session_log.exchange(ruleset.log, opened)
        except Exception:
            self._log.failure("reload: closing the old access log failed")
            warning = "closing the old access log failed; the log has the traceback"
        return evolve(result, notes=(*result.notes, *([warning] if warning else [])))

    def _refused(self, dry_run: bool, *failures: str, problems: tuple[Problem, ...] = ()) -> ReloadResult:
        if not dry_run:
            self._forwarder.refused()
        return ReloadResult(dry_run=dry_run, failures=failures, problems=problems)

    def _tell(self, result: ReloadResult) -> None:
        tell = self._log.error if result.refused else self._log.info
        for line in result.lines():
            tell("reload: {line}", line=line)
        if result.applied:
            self._log.info(
                "reload: done in {seconds} s, in slices of {longest} ms at most",
                seconds=f"{result.seconds:.3f}",
                longest=f"{result.longest * 1000:.0f}",
            )
