# -*- test-case-name: tests.relay.test_secured -*-
"""What makes the TLS that a filter starts in the middle of a connection."""

from __future__ import annotations

from attrs import frozen

from portfwd.streams.transports.tls_side import TLSSide


@frozen(eq=False)
class TLSStart:
    """
    What makes the TLS of one side for one filter.

    :ivar side: makes it; for the upstream's side, of any name.
    :ivar limit: seconds that a handshake may take.
    :ivar named: the options have a name for the upstream's certificate.
    """

    side: TLSSide
    limit: float
    named: bool = False
