# -*- test-case-name: tests.test_dashboard -*-
"""
The Grafana dashboard: ``examples/grafana/portfwd.json``, written by `docs.generate`.

A panel is a title, a unit, and expressions of Prometheus with their legends. Grafana's own format has forty
lines for each; they are made here. A test compares the metrics with those that there are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

#: What each expression is restricted to, by the variables at the top of the dashboard.
WHERE: Final = 'instance=~"$instance"'
OF_RULE: Final = f'{WHERE},rule=~"$rule"'
#: Panels of a row, and Grafana's units of their width and height: the page is 24 wide.
WIDTH: Final = 8
HEIGHT: Final = 8


@frozen
class Panel:
    """
    One graph.

    :ivar unit: as Grafana calls it.
    :ivar about: what the panel is good for; it is shown behind its small i.
    :ivar queries: expressions, each with the legend of its lines.
    :ivar kind: ``timeseries``, or ``stat`` for one number.
    """

    title: str
    unit: str
    about: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"


def _rate(metric: str, by: str, labels: str = OF_RULE) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(share: float, metric: str) -> str:
    by_size = _rate(f"{metric}_bucket", "rule, le")
    return f"histogram_quantile({share}, {by_size})"


ROWS: Final[Sequence[tuple[str, Sequence[Panel]]]] = (
    (
        "Overview",
        (
            Panel(
                "Open sessions",
                "short",
                "Sessions that are not closed.",
                ((f"sum(portfwd_sessions_active{{{OF_RULE}}})", ""),),
                "stat",
            ),
            Panel(
                "Moved",
                "Bps",
                "Bytes a second in both directions together.",
                ((f"sum(rate(portfwd_bytes_total{{{OF_RULE}}}[$__rate_interval]))", ""),),
                "stat",
            ),
            Panel(
                "Ready",
                "bool_yes_no",
                "Whether each process accepts clients: no before it has begun, and while it drains.",
                ((f"portfwd_ready{{{WHERE}}}", "{{instance}}"),),
                "stat",
            ),
        ),
    ),
    (
        "Sessions",
        (
            Panel(
                "Open sessions by rule",
                "short",
                "A rule whose line only rises has clients or upstreams that do not end their connections.",
                ((f"sum by (rule) (portfwd_sessions_active{{{OF_RULE}}})", "{{rule}}"),),
            ),
            Panel(
                "New sessions a second",
                "cps",
                "Sessions that were begun, refused ones too.",
                ((_rate("portfwd_sessions_total", "rule"), "{{rule}}"),),
            ),
            Panel(
                "Ends by reason",
                "cps",
                "Close reasons: -- is an orderly end; the reference explains the others.",
                ((_rate("portfwd_sessions_closed_total", "reason"), "{{reason}}"),),
            ),
            Panel(
                "Bytes a second",
                "Bps",
                "What the receiving sides took.",
                ((_rate("portfwd_bytes_total", "rule, direction"), "{{rule}} {{direction}}"),),
            ),
            Panel(
                "Slow receivers",
                "s",
                "Seconds a second for which a side was not read because the other took no more.",
                ((_rate("portfwd_paused_seconds_total", "rule, direction"), "{{rule}} {{direction}}"),),
            ),
            Panel(
                "Refused and paused",
                "cps",
                "Clients that a limit refused, and pauses of accepting.",
                (
                    (_rate("portfwd_limit_refusals_total", "rule, limit"), "{{rule}}: {{limit}}"),
                    (_rate("portfwd_accept_pauses_total", "rule, cause"), "{{rule}} paused: {{cause}}"),
                ),
            ),
        ),
    ),
    (
        "Targets",
        (
            Panel(
                "Time to reach an upstream",
                "s",
                "How long dials take, at the median and the 99th percentile.",
                (
                    (_quantile(0.5, "portfwd_dial_seconds"), "{{rule}} 50 %"),
                    (_quantile(0.99, "portfwd_dial_seconds"), "{{rule}} 99 %"),
                ),
            ),
            Panel(
                "Time to the first byte",
                "s",
                "From the connection to the upstream's first byte, at the 99th percentile.",
                ((_quantile(0.99, "portfwd_first_byte_seconds"), "{{rule}} 99 %"),),
            ),
            Panel(
                "Failed dials a second",
                "cps",
                "Dials in which a target could not be reached.",
                ((_rate("portfwd_target_failures_total", "rule, target"), "{{rule}} {{target}}"),),
            ),
            Panel(
                "Sessions by target",
                "short",
                "How the open sessions are spread over the targets.",
                (
                    (
                        f"sum by (rule, target) (portfwd_target_sessions_active{{{OF_RULE}}})",
                        "{{rule}} {{target}}",
                    ),
                ),
            ),
            Panel(
                "Targets that are down",
                "short",
                "Targets by state; of rules with several targets or checks.",
                (
                    (
                        f'sum by (rule, target, state) (portfwd_target_state{{{OF_RULE},state!="up"}}) > 0',
                        "{{rule}} {{target}} {{state}}",
                    ),
                ),
            ),
            Panel(
                "Dropped datagrams a second",
                "cps",
                "At listeners, and by sessions.",
                (
                    (_rate("portfwd_datagrams_dropped_total", "rule, cause"), "{{rule}}: {{cause}}"),
                    (_rate("portfwd_session_datagrams_dropped_total", "rule, cause"), "{{rule}}: {{cause}}"),
                ),
            ),
        ),
    ),
    (
        "The process",
        (
            Panel(
                "How late the event loop is",
                "s",
                "The mean lag: above some milliseconds one core is not enough.",
                (
                    (
                        f"rate(portfwd_reactor_lag_seconds_sum{{{WHERE}}}[$__rate_interval])"
                        f" / rate(portfwd_reactor_lag_seconds_count{{{WHERE}}}[$__rate_interval])",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Descriptors",
                "short",
                "Taken ones, and the limit.",
                (
                    (f"portfwd_descriptors{{{WHERE}}}", "{{instance}}"),
                    (f"portfwd_descriptors_limit{{{WHERE}}}", "{{instance}} limit"),
                ),
            ),
            Panel(
                "Share that stays in the kernel",
                "percentunit",
                "Spliced bytes by all bytes.",
                (
                    (
                        " / ".join(
                            _rate(f"portfwd_{one}_total", "rule") for one in ("spliced_bytes", "bytes")
                        ),
                        "{{rule}}",
                    ),
                ),
            ),
            Panel(
                "Reloads",
                "short",
                "Applied and refused ones; after a refused one the file is not what is at work.",
                (
                    (f"increase(portfwd_reloads_total{{{WHERE}}}[$__rate_interval])", "{{instance}} applied"),
                    (
                        f"increase(portfwd_reload_failures_total{{{WHERE}}}[$__rate_interval])",
                        "{{instance}} refused",
                    ),
                ),
            ),
            Panel(
                "Filters that failed",
                "cps",
                "Exceptions of filters.",
                ((_rate("portfwd_filter_failures_total", "rule"), "{{rule}}"),),
            ),
            Panel(
                "Certificates",
                "s",
                "Time until each certificate ends.",
                ((f"portfwd_certificate_not_after_seconds{{{WHERE}}} - time()", "{{file}}"),),
            ),
        ),
    ),
)


def dashboard() -> str:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        place = _place(0, top, 24, 1)
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
        top += 1
        height = HEIGHT if row[0].kind == "timeseries" else HEIGHT // 2
        for number, panel in enumerate(row):
            across, down = number % (24 // WIDTH), number // (24 // WIDTH)
            panels.append(_panel(panel, _place(across * WIDTH, top + down * height, WIDTH, height)))
        top += -(-len(row) * WIDTH // 24) * height
    for number, one in enumerate(panels, 1):
        one["id"] = number
    whole = {
        "title": "portfwd",
        "uid": "portfwd",
        "tags": ["portfwd"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _place(across: int, down: int, width: int, height: int) -> dict[str, int]:
    return {"x": across, "y": down, "w": width, "h": height}


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    asked = (
        ("instance", "label_values(portfwd_info, instance)"),
        ("rule", f"label_values(portfwd_sessions_total{{{WHERE}}}, rule)"),
    )
    return [
        source,
        *(
            {
                "name": name,
                "type": "query",
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
            for name, query in asked
        ),
    ]


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + number), "datasource": source, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }
