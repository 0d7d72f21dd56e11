"""
Bytes to values and back, a protocol a file: what portfwd reads of the protocols that pass through it.

Pure: a reader is called with all bytes that came so far and answers with a
`Read` value and how many bytes it took, with `Need` where more must come, or raises
`WireError`. It keeps nothing between calls, so any split of the same bytes ends in the same answer.
"""

from __future__ import annotations

from portfwd.wire.reading import Need, Read, TooLong, WireError

__all__ = ["Need", "Read", "TooLong", "WireError"]
