# -*- test-case-name: tests.listen.test_listener -*-
"""What a listener asks before it accepts a client, and who gets the client."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from portfwd.values import Address

#: Takes a client in: its socket and its address.
Accept = Callable[[socket.socket, "Address | None"], None]

#: Closes a client for a new one, and says whether there was one; it gets the reason.
MakeRoom = Callable[[str], bool]


class AcceptLimit(Protocol):
    """What may keep clients waiting in the backlog: `portfwd.limits.admission.Admission`."""

    def closed_for(self, now: float) -> float:
        """Seconds for which nobody is to be accepted: 0.0 to go on, infinite until `wait` has woken."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there may be room."""

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""

    def pass_on(self) -> None:
        """Others may look whether there is room."""
