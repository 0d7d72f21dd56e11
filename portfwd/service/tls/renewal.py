# -*- test-case-name: tests.service.tls.test_renewal -*-
"""
Files of TLS, read again in a thread when clients come and the files have changed.

A file server that does not answer must not stop the reactor. So the thread looks at the files and reads them.
At most one thread works for a side of TLS, even if it never returns. Clients are shown the old certificates
until the new ones are there. This module reads no file itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from portfwd.service.tls.file_watch import FileWatch, Signature

T = TypeVar("T")

#: Runs a function, in a thread perhaps; fires with its result, or fails with `TimeoutError`.
Run = Callable[[Callable[[], Any]], "Deferred[Any]"]


def at_once(call: Callable[[], Any]) -> Deferred[Any]:
    """Run it here and now: for whoever has no reactor."""
    return maybeDeferred(call)


@frozen
class Renewed(Generic[T]):
    """
    What came of one look.

    :ivar changed: whether the files look different from before.
    :ivar made: what was made of them; None: nothing was read, or they are not good.
    :ivar problem: what is wrong with them; empty if nothing is.
    """

    changed: bool
    made: T | None = None
    problem: str = ""


class Renewal(Generic[T]):
    """Looks at the files of one side of TLS, and has them read."""

    def __init__(self, watch: FileWatch, run: Run) -> None:
        """:param run: runs the reading."""
        self._watch: Final = watch
        self._run = run
        self._busy = False

    def __repr__(self) -> str:
        return f"<Renewal {'reading' if self._busy else 'idle'}>"

    def look(
        self, read: Callable[[], T], tell: Callable[[Renewed[T]], object], *, always: bool = False
    ) -> None:
        """
        Read the files if they have changed.

        :param read: reads them, in the thread; raises `OSError` or `ValueError` if they are not good.
        :param tell: is told what came of it, on the thread that this is called on. It is not kept: its owner
            keeps this, and nothing must wait for the garbage collector.
        :param always: read them in any case.
        """
        if self._busy:
            return
        self._busy = True

        def work() -> tuple[Signature, Renewed[T]]:
            try:
                # The look comes first: what changes during the reading is seen the next time.
                found = self._watch.look()
                changed = self._watch.differs(found)
                if not changed and not always:
                    return found, Renewed(False)
                try:
                    return found, Renewed(changed, read())
                except (OSError, ValueError) as problem:
                    return found, Renewed(changed, None, str(problem))
            finally:
                self._busy = False

        def done(result: tuple[Signature, Renewed[T]]) -> None:
            found, renewed = result
            self._watch.settle(found)
            tell(renewed)

        def failed(failure: Failure) -> None:
            # The thread is left to itself; the files are looked at again when it has returned.
            tell(Renewed(True, None, str(failure.value)))

        self._run(work).addCallbacks(done, failed)
