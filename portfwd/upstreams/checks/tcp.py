# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The check ``tcp``: connects to the target."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from portfwd.upstreams.checks.api import Check


@frozen
class TCPCheck(Check):
    """
    Connects to the target as a session does, with TLS for a `tls:` target, and closes.

    It does not detect that the server program hangs, because the kernel accepts connections for a stopped
    program too.
    """

    only_connects: ClassVar[bool] = True
