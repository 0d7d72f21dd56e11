# -*- test-case-name: tests.service.tls.test_renewal -*-
"""
Reads changed files of TLS again in a thread, when a connection needs them.

A file server that does not answer must not block the reactor, so a thread checks and reads the files. At most
one thread runs per side of TLS, even if it never returns. Connections use the old certificates until the new
ones are read. The caller passes the function that reads the files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from portfwd.service.tls.file_watch import FileWatch, Signature
from portfwd.service.tls.files import reason_with_remedy

T = TypeVar("T")

#: Runs a function, usually in a thread. The Deferred fires with its result, or fails with `TimeoutError`.
Run = Callable[[Callable[[], Any]], "Deferred[Any]"]


def at_once(call: Callable[[], Any]) -> Deferred[Any]:
    """Run `call` in this thread, without a reactor."""
    return maybeDeferred(call)


@frozen
class Renewed(Generic[T]):
    """
    The result of one check.

    :ivar changed: whether the files have changed.
    :ivar made: the value made from the files; None if they were not read, or cannot be used.
    :ivar problem: the reason why they cannot be used, or an empty text.
    """

    changed: bool
    made: T | None = None
    problem: str = ""


class Renewal(Generic[T]):
    """Checks the files of one side of TLS, and reads them again after a change."""

    def __init__(self, watch: FileWatch, run: Run) -> None:
        """:param run: runs the check and the reading."""
        self._watch: Final = watch
        self._run = run
        self._busy = False

    def __repr__(self) -> str:
        return f"<Renewal {'reading' if self._busy else 'idle'}>"

    def look(
        self, read: Callable[[], T], report: Callable[[Renewed[T]], object], *, always: bool = False
    ) -> None:
        """
        Read the files if they have changed.

        :param read: reads them, in the thread; raises `OSError` or `ValueError` if they cannot be used.
        :param report: called with the result in the thread of the caller. It is not stored, because its owner
            refers to this object, which would make a reference cycle.
        :param always: read them even if they have not changed.
        """
        if self._busy:
            return
        self._busy = True

        def work() -> tuple[Signature, Renewed[T]]:
            try:
                # The check comes first, so that the next check detects changes during the reading.
                found = self._watch.look()
                changed = self._watch.differs(found)
                if not changed and not always:
                    return found, Renewed(False)
                try:
                    return found, Renewed(changed, read())
                except (OSError, ValueError) as problem:
                    return found, Renewed(changed, None, reason_with_remedy(problem))
            finally:
                self._busy = False

        def done(result: tuple[Signature, Renewed[T]]) -> None:
            found, renewed = result
            self._watch.settle(found)
            report(renewed)

        def failed(failure: Failure) -> None:
            # The thread still runs. The next check is possible after it has returned.
            report(Renewed(True, None, str(failure.value)))

        self._run(work).addCallbacks(done, failed)
