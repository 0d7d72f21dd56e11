"""
Tools for tests of filters, also used by the tests of portfwd.

`Pipe` runs filters on plain bytes. `every_split` checks that a result does not depend on how bytes are split.
`check_filter` checks the filter contract. `started` starts a factory for a test.

`portfwd.testing.peers` has scripted peers on real sockets, `portfwd.testing.script` their language, and
`portfwd.testing.data` the bytes that they send and check. The forwarder imports none of these modules.
"""

from __future__ import annotations

from portfwd.testing.contract import ContractBroken, check_filter
from portfwd.testing.outcome import Notes, Outcome
from portfwd.testing.pipe import Pipe
from portfwd.testing.splits import every_split
from portfwd.testing.started import started

__all__ = ["ContractBroken", "Notes", "Outcome", "Pipe", "check_filter", "every_split", "started"]
