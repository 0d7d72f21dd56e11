# -*- test-case-name: tests.listen.test_listener -*-
"""The interfaces of a listener to the limits of its rule and to the code that serves its clients."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from portfwd.values import Address

#: Serves a client, given its socket and its address.
Accept = Callable[[socket.socket, "Address | None"], None]

#: Closes a client to make room for a new one. Called with the reason; returns whether there was one.
MakeRoom = Callable[[str], bool]


class AcceptLimit(Protocol):
    """Limits at which clients wait in the backlog: `portfwd.limits.admission.Admission`."""

    def closed_for(self, now: float) -> float:
        """Seconds for which the listener must not accept. Infinite: until `wait` calls back."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` when a slot may be free."""

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""

    def pass_on(self) -> None:
        """Wake the next waiting listener if slots are free."""
