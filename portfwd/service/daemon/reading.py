# -*- test-case-name: tests.service.daemon.test_reading -*-
"""
Reads files without blocking the process: only regular files, and in a thread while there is traffic.

A FIFO without a writer, a terminal, or a file server that does not answer would block the reactor, including
its reaction to SIGTERM. So files are opened without blocking, and only regular files are read. A reload reads
the rules file, its includes, and the files that the rules name in a thread, with a time limit. When the
reactor reads the latter files again, they are in the page cache of the kernel.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from portfwd.errors import RulesError
from portfwd.kernel.reactor import Reactor
from portfwd.rules.include import MAX_FILES
from portfwd.rules.model import Ruleset
from portfwd.rules.options import OPTIONS
from portfwd.rules.reading import Files
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import Line, WordFault
from portfwd.service.daemon.regular import read_regular

#: Maximum seconds for a thread to read all files of a reload. A slow file server answers earlier.
READ_TIME: Final = 10.0
#: Fields of options whose value is a file or a directory to read. A key log is written, not read.
FILE_OPTIONS: Final = frozenset(option.field for option in OPTIONS if option.unit == "file") - {"keylog"}

T = TypeVar("T")


def in_thread(reactor: Reactor, call: Callable[[], T], seconds: float = READ_TIME) -> Deferred[T]:
    """
    Run `call` in a new daemon thread, which is not joined at exit.

    :returns: a Deferred that fires with its result or error, or fails with `TimeoutError` after `seconds`.
    """
    done: Deferred[T] = Deferred()

    def late() -> None:
        settle(Failure(TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} seconds")))

    def settle(result: Any) -> None:
        if timer.active():
            timer.cancel()
        if not done.called:
            done.callback(result)

    def work() -> None:
        result: Any
        try:
            result = call()
        except Exception:
            result = Failure()
        reactor.callFromThread(settle, result)

    timer = reactor.callLater(seconds, late)
    threading.Thread(target=work, name="portfwd-read", daemon=True).start()
    return done


class CachedFiles:
    """
    A cache of files that a thread has read. Other files are read on demand.

    It implements `portfwd.rules.reading.Files`.
    """

    def __init__(self, files: Files) -> None:
        """:param files: reads the files."""
        self._files = files
        self._texts: dict[str, str | OSError | RulesError] = {}
        self._found: dict[tuple[str, str], list[str]] = {}

    def read(self, path: str) -> str:
        """See `Files`."""
        text = self._texts[path] if path in self._texts else self._files.read(path)
        if isinstance(text, str):
            return text
        raise text

    def glob(self, pattern: str, beside: str) -> list[str]:
        """See `Files`."""
        found = self._found.get((pattern, beside))
        return self._files.glob(pattern, beside) if found is None else found

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """See `Files`."""
        return self._files.port_of_service(name, protocol)

    @property
    def texts(self) -> Mapping[str, str | OSError | RulesError]:
        """The text of each cached file, or the error of reading it, in the order of reading."""
        return self._texts

    @property
    def patterns(self) -> Iterable[tuple[str, str]]:
        """The pattern of each ``include`` line, and the file that contains the line."""
        return self._found.keys()

    def take(self, path: str) -> None:
        """Read a rules file and its includes. Call it in a thread."""
        waiting = [path]
        while waiting and len(self._texts) <= MAX_FILES:
            path = waiting.pop()
            if path in self._texts:
                continue
            try:
                text = self._texts[path] = self._files.read(path)
            except (OSError, RulesError) as problem:
                self._texts[path] = problem
                continue
            for pattern in _included(path, text):
                found = self._found[pattern, path] = self._files.glob(pattern, path)
                waiting.extend(found)


def _included(path: str, text: str) -> Iterator[str]:
    """The patterns of ``include`` lines."""
    for raw in text.split("\n"):
        if raw.lstrip(" \t\ufeff").startswith("include"):
            try:
                words = Line(path, 1, raw.removeprefix("\ufeff").removesuffix("\r")).words()
            except WordFault:
                continue
            if len(words) == 2 and words[0].text == "include":
                yield words[1].text


def files_of(ruleset: Ruleset) -> Steps[list[str]]:
    """The files that rules name: files of TLS, and all values of filter options, which may be paths."""
    found: dict[str, None] = {}
    for rule in ruleset.rules:
        for options in (
            rule.listen.options,
            rule.options,
            *(target.options for target in rule.every_target()),
        ):
            for name in FILE_OPTIONS:
                value = getattr(options, name, None)
                if isinstance(value, str):
                    found[value] = None
        for spec in rule.filters:
            for value in (*spec.words, *(value for _, value in spec.options)):
                found[value] = None
        yield
    return list(found)


def fill_page_cache(paths: Iterable[str]) -> None:
    """
    Read files, and the files in directories, into the page cache. Call it in a thread.

    Errors are ignored here. The code that uses a file reports them.
    """
    for path in paths:
        try:
            inside = sorted(os.listdir(path))[:MAX_FILES] if os.path.isdir(path) else []
            for one in [os.path.join(path, name) for name in inside] or [path]:
                read_regular(one)
        except (OSError, ValueError):
            continue


def read_in_thread(reactor: Reactor, path: str, files: Files) -> Deferred[CachedFiles]:
    """Read a rules file and its includes in a thread."""
    before = CachedFiles(files)
    return in_thread(reactor, partial(before.take, path)).addCallback(lambda _: before)
