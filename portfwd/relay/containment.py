# -*- test-case-name: tests.relay.test_containment -*-
"""
Contains exceptions of portfwd's own code in one session.

The callers of a session (a reactor, the poller, a timer, the resolver) also serve other sessions. An
exception that left a session would stop a listener's ``doRead``, or the result for other clients that wait
for the same name. `contained` passes it to the `broke` method of the object, which logs it and ends the
session.

This applies to every exception, including `SystemExit`, `KeyboardInterrupt` and asyncio's `CancelledError`: a
filter or an observer of the log that raises one of them must not stop other sessions. Ctrl-C is not affected,
because Twisted's signal handlers stop the reactor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from twisted.python.failure import Failure


class Breakable(Protocol):
    """An object with contained methods."""

    def broke(self, failure: Failure) -> None:
        """A method raised `failure`. Log it and end the session of this object. Must not raise."""


Object = TypeVar("Object", bound=Breakable)
Arguments = ParamSpec("Arguments")


def contained(
    method: Callable[Concatenate[Object, Arguments], None],
) -> Callable[Concatenate[Object, Arguments], None]:
    """
    Pass exceptions of `method` to the `broke` method of its object.

    Only positional arguments are passed, because this is in the path of every event.
    """
    unbound = cast("Callable[..., None]", method)

    @functools.wraps(method)
    def call(self: Object, /, *arguments: Any) -> None:
        try:
            unbound(self, *arguments)
        except BaseException:
            self.broke(Failure())

    return cast("Callable[Concatenate[Object, Arguments], None]", call)
