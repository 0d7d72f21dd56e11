# -*- test-case-name: tests.bench.test_report -*-
"""
The figures the lab knows: what each is called, its unit, and which way is better.

A sample is a mapping from these names to numbers; `tables` and `goals` read
nothing else about them. Nothing is measured here.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen


@frozen
class Figure:
    """
    One kind of measured number.

    :ivar title: the heading of its column, with the unit.
    :ivar higher_is_better: None where neither is (a size that explains another figure).
    :ivar digits: decimals shown.
    """

    title: str
    higher_is_better: bool | None
    digits: int


FIGURES: Final = {
    "gbit_s": Figure("Gbit/s", True, 2),
    "alone_gbit_s": Figure("Gbit/s alone", True, 2),
    "kept_share": Figure("kept", True, 2),
    "cpu_s_gib": Figure("CPU s/GiB", False, 3),
    "bytes_call": Figure("bytes a system call", None, 0),
    "spliced_share": Figure("spliced", None, 2),
    "requests_s": Figure("requests/s", True, 0),
    "p50_ms": Figure("p50 ms", False, 3),
    "p99_ms": Figure("p99 ms", False, 3),
    "p99_alone_ms": Figure("p99 ms without bulk", False, 3),
    "bulk_gbit_s": Figure("bulk Gbit/s", True, 2),
    "cpu_us": Figure("µs CPU each", False, 1),
    "cpu_share": Figure("cores", False, 3),
    "connections_s": Figure("connections/s", True, 0),
    "failures": Figure("failures", False, 0),
    "kib_each": Figure("KiB each", False, 2),
    "rss_kib_each": Figure("RSS KiB each", False, 2),
    "pipe_kib_each": Figure("in pipes KiB each", False, 2),
    "pipe_room_kib_each": Figure("room of pipes KiB each", None, 2),
    "held_mib_each": Figure("on the way MiB each", None, 2),
    "lost_bytes": Figure("bytes lost", False, 0),
    "ready_s": Figure("ready after s", False, 3),
    "stall_ms": Figure("longest stall ms", False, 1),
    "stall_alone_ms": Figure("longest stall ms without that", False, 1),
    "datagrams_s": Figure("datagrams/s", True, 0),
    "lost_share": Figure("lost", None, 2),
}
