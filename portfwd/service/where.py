# -*- test-case-name: tests.service.test_forwarder -*-
"""Where rules listen, as the log tells it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from portfwd.service.build import Bound, bound_addresses
from portfwd.service.targets import target_labels


def tell_where(log: Logger, bounds: Iterable[Bound]) -> None:
    """Tell `log` each address that is bound, with its rule and its targets."""
    for bound in bounds:
        for address in bound_addresses(bound):
            log.info(
                "{rule}: listening on {address} -> {targets}",
                rule=bound.live.name,
                address=address,
                targets=target_labels(bound.live),
            )
