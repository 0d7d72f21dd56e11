# -*- test-case-name: tests.bench.test_loads -*-
"""
Bulk through filters in Python: one and three that are shown every byte, and one that is done at once.

Beside them stand those that they are measured by, in the same rounds and
without any filter: portfwd as it splices and as it copies, and nginx.
"""

from __future__ import annotations

from typing import Final

from bench.loads.api import Load
from bench.loads.bulk import Transfers, direction
from bench.peers.api import Peer

GROUP: Final = "filters"
#: Who takes part without filters: the best that a filter which is done can leave, what is left when bytes
#: have to be seen, and who the goals compare with.
_MEASURES: Final = ("portfwd-auto", "portfwd-copy", "nginx-64k")


class Filtered(Transfers):
    """8 streams in one direction."""

    def __init__(self, to_client: bool) -> None:
        towards = direction(to_client)
        title = f"Bulk through filters in Python, 8 streams, {towards}"
        super().__init__(f"filters-8-{towards}", GROUP, title, 8, to_client)
        self.in_quick = to_client

    def takes(self, peer: Peer) -> bool:
        """Those with filters, and a few without."""
        return peer.only_group == GROUP or peer.name in _MEASURES


def rows() -> list[Load]:
    """Both directions."""
    return [Filtered(to_client) for to_client in (False, True)]
