# -*- test-case-name: tests.relay.test_secured -*-
"""The settings of TLS that a filter starts in the middle of a connection."""

from __future__ import annotations

from attrs import frozen

from portfwd.relay.destination import TLSTarget
from portfwd.streams.transports.tls_side import TLSSide


@frozen(eq=False)
class TLSStart:
    """
    The TLS of one side for one filter.

    :ivar side: makes the TLS side; for the upstream's side, for any name.
    :ivar target: makes the side of the upstream for a name; None for the client.
    :ivar limit: seconds that a handshake may take.
    :ivar named: whether the options have a name for the upstream's certificate.
    """

    side: TLSSide
    limit: float
    target: TLSTarget | None = None
    named: bool = False
