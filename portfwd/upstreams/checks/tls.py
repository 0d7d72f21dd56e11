# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The check ``tls``: performs a TLS handshake."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from portfwd.filters.options import option, switch, text
from portfwd.upstreams.checks.api import Check, CheckCarrier


@frozen
class TLSCheck(Check):
    """
    Performs a TLS handshake with the target, also if sessions connect to it by plain TCP.

    A `tls:` target is verified according to its own options.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.TLS
    only_connects: ClassVar[bool] = True

    verify: bool = option(switch, default=True, help="Whether a target that is not `tls:` is verified.")
    server_name: str = option(
        text, default="", help="The name that is requested and verified; by default the target's host."
    )
