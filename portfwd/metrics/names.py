# -*- test-case-name: tests.metrics.test_names -*-
"""
All metrics: name, kind, labels and meaning.

The exposition and the reference are made from this table. Names and units follow Prometheus' conventions:
base units in the name, and ``_total`` for counters. The values are in `portfwd.metrics.exposition`.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen


class MetricKind(enum.Enum):
    """The type of a metric in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@frozen
class MetricName:
    """
    One metric.

    :ivar about: one sentence without a full stop.
    """

    name: str
    kind: MetricKind
    about: str
    labels: tuple[str, ...] = ()


_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_RULE: Final = ("rule",)
_FLOW: Final = ("rule", "direction")
_TARGET: Final = ("rule", "target")

NAMES: Final[tuple[MetricName, ...]] = (
    MetricName("portfwd_info", _GAUGE, "1, with portfwd's version as a label", ("version",)),
    MetricName("portfwd_start_time_seconds", _GAUGE, "when the process began to forward, since the epoch"),
    MetricName("portfwd_ready", _GAUGE, "1 while clients are accepted, 0 before and while draining"),
    MetricName("portfwd_listeners", _GAUGE, "listening sockets, by state", ("state",)),
    MetricName("portfwd_sessions_active", _GAUGE, "sessions that are not closed", _RULE),
    MetricName("portfwd_sessions_total", _COUNTER, "sessions that have begun, including refused ones", _RULE),
    MetricName("portfwd_sessions_closed_total", _COUNTER, "sessions that were closed, by close reason",
               ("rule", "reason")),
    MetricName("portfwd_limit_refusals_total", _COUNTER,
               "sessions that were refused, by the limit that was reached", ("rule", "limit")),
    MetricName("portfwd_accept_pauses_total", _COUNTER,
               "how often accepting paused: for a limit, for descriptors, or for the kernel",
               ("rule", "cause")),
    MetricName("portfwd_datagrams_dropped_total", _COUNTER,
               "datagrams that were dropped at a listener: its buffer was full, the client had just been"
               " refused, an answer could not be sent, or it was too long", ("rule", "cause")),
    MetricName("portfwd_session_datagrams_dropped_total", _COUNTER,
               "datagrams that sessions dropped, open ones too, by the causes of the closing line's"
               " dropped=", ("rule", "cause")),
    MetricName("portfwd_filter_failures_total", _COUNTER, "how often a filter raised an exception", _RULE),
    MetricName("portfwd_bytes_total", _COUNTER,
               "bytes written to the receiving side, including open sessions", _FLOW),
    MetricName("portfwd_spliced_bytes_total", _COUNTER, "those of them that were spliced", _FLOW),
    MetricName("portfwd_reads_total", _COUNTER, "system calls that read from the sending side", _FLOW),
    MetricName("portfwd_writes_total", _COUNTER, "system calls that wrote to the receiving side", _FLOW),
    MetricName("portfwd_paused_seconds_total", _COUNTER,
               "time for which a side was not read because the other one accepted no more bytes", _FLOW),
    MetricName("portfwd_tcp_retransmits_total", _COUNTER,
               "segments that the kernel retransmitted to clients and to upstreams, including open sessions;"
               " for rules with tcp-info=on", ("rule", "side")),
    MetricName("portfwd_dial_seconds", _HISTOGRAM, "time until an upstream was reached", _RULE),
    MetricName("portfwd_first_byte_seconds", _HISTOGRAM,
               "time from then until the upstream's first byte", _RULE),
    MetricName("portfwd_session_seconds", _HISTOGRAM, "duration of sessions", _RULE),
    MetricName("portfwd_target_sessions_active", _GAUGE,
               "sessions that have reached the target and are not closed", _TARGET),
    MetricName("portfwd_target_closed_total", _COUNTER,
               "sessions that had reached the target and were closed, by close reason",
               (*_TARGET, "reason")),
    MetricName("portfwd_target_state", _GAUGE,
               "1 for the state of the target, 0 for the others; for rules with several targets or"
               " checks", (*_TARGET, "state")),
    MetricName("portfwd_target_changes_total", _COUNTER,
               "how often the state of the target changed", _TARGET),
    MetricName("portfwd_target_check_seconds", _GAUGE, "duration of the last check of the target",
               (*_TARGET, "check")),
    MetricName("portfwd_target_dials_total", _COUNTER, "dials of the target", _TARGET),
    MetricName("portfwd_target_failures_total", _COUNTER, "dials in which the target could not be reached",
               _TARGET),
    MetricName("portfwd_target_bytes_total", _COUNTER, "bytes moved between clients and the target",
               (*_TARGET, "direction")),
    MetricName("portfwd_descriptors", _GAUGE, "used file descriptors, as counted by portfwd"),
    MetricName("portfwd_descriptors_limit", _GAUGE, "maximum number of file descriptors; 0: no limit"),
    MetricName("portfwd_pipes_lent", _GAUGE, "pipes that flows use to splice now"),
    MetricName("portfwd_pipe_bytes", _GAUGE, "the size of all pipes, including idle ones"),
    MetricName("portfwd_pipes_refused_total", _COUNTER, "how often a flow copied because there was no pipe"),
    MetricName("portfwd_sources", _GAUGE, "client addresses that are remembered for limits"),
    MetricName("portfwd_sources_forgotten_total", _COUNTER,
               "client addresses whose rate was forgotten because too many were remembered"),
    MetricName("portfwd_reloads_total", _COUNTER, "reloads that changed the rules"),
    MetricName("portfwd_reload_failures_total", _COUNTER, "reloads that were refused, and changed nothing"),
    MetricName("portfwd_reload_time_seconds", _GAUGE,
               "when the last reload changed the rules, since the epoch; 0: never"),
    MetricName("portfwd_certificate_not_after_seconds", _GAUGE,
               "when a certificate presented to clients or targets expires, since the epoch", ("file",)),
    MetricName("portfwd_reactor_lag_seconds", _HISTOGRAM,
               "delay of the reactor, measured four times a second"),
)  # fmt: skip
