# -*- test-case-name: tests.service.run.test_watching -*-
"""
``--watch``: reads a changed rules file again.

inotify reports changes in all directories of the paths of the rules file and its includes, including symbolic
links. It thus detects an editor that renames a new file over the old one, and a ConfigMap whose link
``..data`` is replaced. `Settling` decides when to read, and a thread reads the files. If their text has
changed, a reload starts. A refused file is not tried again before it changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import StartError
from portfwd.kernel.inotify import FileChange, Inotify
from portfwd.kernel.reactor import Reactor
from portfwd.rules.reading import Files
from portfwd.service.daemon.reading import CachedFiles, in_thread
from portfwd.service.daemon.rule_files import RuleFiles, rule_files
from portfwd.service.run.settling import Settling
from portfwd.values import counted

#: Events after which the file is complete, because it is not open for writing any more.
WHOLE: Final = FileChange.CLOSED | FileChange.MOVED_FROM | FileChange.MOVED_TO | FileChange.DELETED


def look_at(path: str, files: Files) -> RuleFiles:
    """Read a rules file and its includes."""
    before = CachedFiles(files)
    before.take(path)
    return rule_files(path, before)


class RulesWatch(Service):
    """Starts a reload when the text of the rules file or of an include has changed."""

    name = "portfwd watch"

    def __init__(
        self,
        reactor: Reactor,
        path: Callable[[], str],
        files: Files,
        at_work: bytes,
        reload: Callable[[], object],
        *,
        look: Callable[[Callable[[], RuleFiles]], Deferred[RuleFiles]] | None = None,
    ) -> None:
        """
        :param path: returns the current name of the rules file.
        :param at_work: digest of the rules read at the start.
        :param look: calls a function in a thread.
        """
        self._reactor = reactor
        self._path = path
        self._files = files
        self._digest = at_work
        self._reload = reload
        self._look = partial(in_thread, reactor) if look is None else look
        self._settling = Settling()
        self._found: RuleFiles | None = None
        self.inotify: Inotify | None = None
        self._next: IDelayedCall | None = None
        self._looking = False
        self._log = Logger()

    def __repr__(self) -> str:
        return f"<RulesWatch {self.inotify}>"

    def startService(self) -> None:
        """
        Start to watch, and check for changes since the rules were read.

        :raises StartError: inotify is missing, or the directory of a file cannot be read.
        """
        path = self._path()
        try:
            self.inotify = Inotify(self._reactor, self._changed)
            self._watch(look_at(path, self._files))
        except OSError as problem:
            self._close()
            where = f" {problem.filename}" if problem.filename else ""
            raise StartError([f"--watch: cannot watch{where or f' {path}'}: {problem.strerror}"]) from None
        super().startService()
        count = len(list(self.inotify.directories))
        self._log.info("watching {path}, in {count}", path=path, count=counted(count, "place"))
        self._settling.noticed(self._reactor.seconds())
        self._schedule()

    def stopService(self) -> None:
        """Stop watching."""
        super().stopService()
        self._close()

    def _close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self.inotify is not None:
            self.inotify.close()
            self.inotify = None

    def _watch(self, found: RuleFiles) -> None:
        """
        Watch the directories of `found` and no others.

        :raises OSError: the directory of a rules file cannot be watched.
        """
        assert self.inotify is not None
        before, self._found = self._found, found
        for directory in [one for one in self.inotify.directories if one not in found.names]:
            self.inotify.forget(directory)
        is_new = False
        for directory in sorted(found.names):
            try:
                is_new = self.inotify.watch(directory) or is_new
            except OSError as problem:
                # Unreadable parent directories are ignored. A missing directory is reported by its parent.
                if directory in found.own and not isinstance(problem, FileNotFoundError | NotADirectoryError):
                    problem.filename = directory
                    raise
        if is_new and before is not None:
            # A change between the read and now may not have been reported.
            self._settling.noticed(self._reactor.seconds())

    def _changed(self, directory: str, name: str, change: FileChange) -> None:
        lost = change & (FileChange.OVERFLOW | FileChange.IGNORED)
        if lost or (self._found is not None and self._found.concerns(directory, name)):
            is_open = True if change & FileChange.MODIFIED else False if change & WHOLE else None
            self._settling.noticed(self._reactor.seconds(), os.path.join(directory, name), is_open=is_open)
            self._schedule()

    def _schedule(self) -> None:
        due = self._settling.due
        if due is None or self._looking or self.inotify is None:
            return
        wait = max(0.0, due - self._reactor.seconds())
        if self._next is None:
            self._next = self._reactor.callLater(wait, self._begin)
        else:
            self._next.reset(wait)

    def _begin(self) -> None:
        self._next = None
        self._settling.looked()
        self._looking = True
        path, files = self._path(), self._files
        self._look(lambda: look_at(path, files)).addBoth(self._looked)

    def _looked(self, found: RuleFiles | Failure) -> None:
        self._looking = False
        if self.inotify is None:
            return
        if isinstance(found, Failure):
            self._log.error(
                "a changed rules file cannot be read: {reason}; the next change or SIGHUP tries again",
                reason=found.getErrorMessage(),
            )
        else:
            try:
                self._watch(found)
            except OSError as problem:
                where, reason = problem.filename, problem.strerror
                self._log.error("{where} is not watched: {reason}", where=where, reason=reason)
            if found.digest != self._digest:
                self._digest = found.digest
                self._log.info("the rules file has changed")
                self._reload()
        self._schedule()
