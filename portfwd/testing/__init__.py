"""
For people who write filters, and for the tests of portfwd itself.

`Pipe` runs filters on plain bytes, `every_split` insists that it does not matter how bytes are
cut, `check_filter` is the filter contract as a test, and `started` starts a factory for them.

`portfwd.testing.peers` has scripted peers on real sockets, whose cases read as
conversations; `portfwd.testing.script` is their language;
`portfwd.testing.data` the checked bytes they send. Nothing here is imported
by the forwarder.
"""

from __future__ import annotations

from portfwd.testing.contract import ContractBroken, check_filter
from portfwd.testing.outcome import Notes, Outcome
from portfwd.testing.pipe import Pipe
from portfwd.testing.splits import every_split
from portfwd.testing.started import started

__all__ = ["ContractBroken", "Notes", "Outcome", "Pipe", "check_filter", "every_split", "started"]
