# -*- test-case-name: tests.bench.test_loads -*-
"""The list of rows, in the order in which they are run and shown."""

from __future__ import annotations

from bench.loads import (
    bulk,
    connections,
    datagrams,
    fairness,
    filters,
    quiet,
    reload,
    requests,
    startup,
    targets,
    tls,
)
from bench.loads.api import Load


def rows() -> list[Load]:
    """All rows."""
    return [
        *bulk.rows(),
        *requests.rows(),
        *connections.rows(),
        *quiet.rows(),
        *startup.rows(),
        *reload.rows(),
        *filters.rows(),
        *tls.rows(),
        *datagrams.rows(),
        *fairness.rows(),
        *targets.rows(),
    ]
