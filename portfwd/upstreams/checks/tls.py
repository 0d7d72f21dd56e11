# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The check ``tls``: a TLS handshake."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from portfwd.filters.options import option, switch, text
from portfwd.upstreams.checks.api import Check, CheckCarrier


@frozen
class TLSCheck(Check):
    """
    Makes a TLS handshake with the target, also where its bytes are passed on by TCP.

    A `tls:` target is verified as its own options say.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.TLS
    only_connects: ClassVar[bool] = True

    verify: bool = option(switch, default=True, help="Whether a target that is not `tls:` is verified.")
    server_name: str = option(
        text, default="", help="The name that it is asked for and must have; without it the target's host."
    )
