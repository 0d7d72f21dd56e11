# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The check ``tcp``: a dial."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from portfwd.upstreams.checks.api import Check


@frozen
class TCPCheck(Check):
    """
    Connects to the target as a session does, with TLS for a `tls:` target, and closes.

    It does not show that the program behind the socket works: the kernel accepts connections for a program
    that is stopped.
    """

    only_connects: ClassVar[bool] = True
