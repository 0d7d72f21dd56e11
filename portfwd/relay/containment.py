# -*- test-case-name: tests.relay.test_containment -*-
"""
A mistake of ours ends one session, never two.

Whatever calls into a session (a reactor, a poller, a timer, the resolver) serves
others as well: an exception that left a session would stop a listener's
``doRead``, or the answer to everybody else who waits for a name. `contained`
hands it to the object's own `broke`. It logs nothing and ends nothing itself.

That holds for every exception, `SystemExit`, `KeyboardInterrupt` and asyncio's `CancelledError` included: a
filter or an observer of the log that raises one of them must not stop the sessions of others. Ctrl-C does not
come this way: Twisted's signal handlers stop the reactor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from twisted.python.failure import Failure


class Breakable(Protocol):
    """What has methods that are contained."""

    def broke(self, failure: Failure) -> None:
        """A method raised `failure`: log it and end what belongs to this object. Must not raise."""


Object = TypeVar("Object", bound=Breakable)
Arguments = ParamSpec("Arguments")


def contained(
    method: Callable[Concatenate[Object, Arguments], None],
) -> Callable[Concatenate[Object, Arguments], None]:
    """
    Make an exception of `method` go to the object's `broke`, and no further.

    Arguments go by position: this stands in the path of every event.
    """
    unbound = cast("Callable[..., None]", method)

    @functools.wraps(method)
    def call(self: Object, /, *arguments: Any) -> None:
        try:
            unbound(self, *arguments)
        except BaseException:
            self.broke(Failure())

    return cast("Callable[Concatenate[Object, Arguments], None]", call)
