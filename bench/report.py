# -*- test-case-name: tests.bench.test_report -*-
"""
Results as Markdown: the machine, the goals with met or missed, a table a row, and the pictures' names.

Everything is made from `Results`; where a number is missing the table says why,
and never shows a guess. In a page that people also write, only what stands
between the two marks is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bench.figures import FIGURES
from bench.goals import GOALS, Verdict, judge
from bench.pictures import Bar, Line, bars, lines
from bench.results import Results, Row
from bench.rounds import Spread, of_figure

BEGIN: Final = "<!-- measured: everything down to the closing mark is written by python -m bench -->"
END: Final = "<!-- measured: end -->"
_HEADING: Final = "# Performance\n\n"

#: Rows that get bars, with the figure drawn.
_BARS: Final = (
    ("bulk-8-to-client", "gbit_s"),
    ("requests-50-logs-off", "requests_s"),
    ("connections-logs-off", "connections_s"),
    ("idle-1000", "kib_each"),
    ("beside", "p99_ms"),
)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    marks = ["---", *("---:" for _ in heading[1:])]
    lines_ = [heading, marks, *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines_
    )


def shown(spread: Spread | None, digits: int) -> str:
    """Median with least and greatest: ``9.81 (9.70–10.02)``; one number when there is only one."""
    if spread is None:
        return "–"
    if spread.count == 1:
        return f"{spread.median:.{digits}f}"
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def _bound(verdict: Verdict, bound: float | None, met: bool | None) -> str:
    if bound is None:
        return "–"
    figure = FIGURES[verdict.goal.figure]
    sign = "≥" if figure.higher_is_better else "≤"
    times = " ×" if verdict.goal.peers else ""
    result = {True: "met", False: "**missed**", None: "not measured"}[met]
    return f"{sign} {bound:g}{times}: {result}"


def rounds_of(results: Results) -> str:
    """How many rounds the rows had: a number, or ``3 to 9``."""
    rounds: dict[str, int] = {}
    for sample in results.samples:
        rounds[sample.row] = max(rounds.get(sample.row, 0), sample.round + 1)
    least, most = min(rounds.values(), default=0), max(rounds.values(), default=0)
    return str(least) if least == most else f"{least} to {most}"


def goals_table(results: Results) -> str:
    """Every goal with its ratio, and met, missed or not measured for *must* and *goal*."""
    rows = []
    for goal in GOALS:
        verdict = judge(goal, results.samples)
        against = " or ".join(goal.peers) if goal.peers else "–"
        rows.append(
            [
                goal.text,
                FIGURES[goal.figure].title,
                against,
                shown(verdict.value, 2),
                _bound(verdict, goal.must, verdict.must_met),
                _bound(verdict, goal.goal, verdict.goal_met),
            ]
        )
    return table(["work", "figure", "against", "ratio", "must", "goal"], rows)


def row_table(results: Results, row: Row) -> str:
    """One row: contestants down, figures across, failures named beneath."""
    if row.skipped:
        return f"Not measured: {row.skipped}.\n"
    samples = [sample for sample in results.samples if sample.row == row.name]
    present = [name for name in FIGURES if any(name in sample.figures for sample in samples)]
    peers = [name for name in results.versions if any(s.peer == name and s.figures for s in samples)]
    body = [
        [peer, *(shown(of_figure(samples, row.name, peer, f), FIGURES[f].digits) for f in present)]
        for peer in peers
    ]
    said = table(["", *(FIGURES[name].title for name in present)], body) if body else ""
    failed: dict[str, tuple[int, str]] = {}
    for sample in samples:
        if sample.failed:
            failed[sample.peer] = (failed.get(sample.peer, (0, ""))[0] + 1, sample.failed)
    for peer, (count, why) in failed.items():
        said += f"\n{peer} failed in {count} sample{'s' * (count > 1)}: {why}.\n"
    return said


def _sweep(results: Results, figure: str) -> list[Line]:
    found = []
    sizes = [int(row.name.partition("-")[2]) * 1024 for row in results.rows if row.group == "sweep"]
    for peer in results.versions:
        points = []
        for size in sizes:
            value = of_figure(results.samples, f"sweep-{size // 1024}", peer, figure)
            if value is not None:
                points.append((size, value))
        if points:
            found.append(Line(peer, tuple(points)))
    return found


def sweep_table(results: Results, figure: str) -> str:
    """The sweep: contestants across, sizes down."""
    series = _sweep(results, figure)
    sizes = sorted({size for line in series for size, _ in line.points})
    digits = FIGURES[figure].digits
    body = []
    for size in sizes:
        cells = [f"{size // 1024} KiB"]
        for line in series:
            value = dict(line.points).get(size)
            cells.append("–" if value is None else f"{value.median:.{digits}f}")
        body.append(cells)
    return table(["read size", *(line.name for line in series)], body) if body else "Not measured.\n"


def draw(results: Results) -> dict[str, str]:
    """The pictures: SVG text by file name; those without numbers are left out."""
    drawn = {}
    for figure, said in (("gbit_s", "Throughput"), ("cpu_s_gib", "The forwarder's CPU time")):
        series = [line for line in _sweep(results, figure) if line.name != "none"]
        if series:
            title = f"{said} over read size, 8 streams"
            drawn[f"sweep-{figure.replace('_', '-')}.svg"] = lines(title, FIGURES[figure].title, series)
    for name, figure in _BARS:
        row = next((row for row in results.rows if row.name == name), None)
        found = []
        for peer in results.versions:
            value = of_figure(results.samples, name, peer, figure)
            if value is not None:
                found.append(Bar(peer, value, peer.startswith("portfwd")))
        if row is not None and found:
            shown_ = FIGURES[figure]
            drawn[f"{name}.svg"] = bars(f"{row.title}: {shown_.title}", found, shown_.digits)
    return drawn


def _shortened(results: Results) -> str:
    if results.options.get("smoke"):
        return ", a smoke run: its numbers mean nothing"
    return ", shortened run (--quick)" if results.options.get("quick") else ""


def _machine(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"Measured {results.date} at commit `{results.commit}` on {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory']}, {machine['distribution']}, "
        f"kernel {machine['kernel']}, Python {machine['python']}; {results.lab}; "
        f"{rounds_of(results)} interleaved rounds"
        f"{_shortened(results)}. "
        "Figures are medians (least–greatest); ratios are medians of the rounds' own ratios. "
        "CPU is the forwarder's own, by the kernel. Bytes a system call are those relayed by all calls that "
        "read or wrote them, so half of what one read takes.\n"
    )
    present = [[name, version, results.about.get(name, "")] for name, version in results.versions.items()]
    yield table(["contestant", "version", "setting"], present).replace("---:", "---")
    if results.absent:
        said = "; ".join(f"{name}: {why}" for name, why in results.absent.items())
        yield f"Left out: {said}.\n"


def markdown(results: Results, pictures: Mapping[str, str], folder: str) -> str:
    """
    The whole report.

    :param pictures: as `draw` made them.
    :param folder: where they stand, relative to the page; empty: they are not shown.
    """
    parts = ["## Measured\n", *_machine(results), "### Goals\n", goals_table(results)]

    def picture(name: str, alternative: str) -> None:
        if folder and name in pictures:
            parts.append(f"![{alternative}]({folder}/{name})\n")

    sweep_done = False
    for row in results.rows:
        if row.group == "sweep":
            if not sweep_done:
                sweep_done = True
                parts.append("### Bulk over the read size\n")
                for figure in ("gbit_s", "cpu_s_gib", "bytes_call"):
                    name = f"sweep-{figure.replace('_', '-')}.svg"
                    parts.append(f"{FIGURES[figure].title}:\n")
                    picture(name, f"{FIGURES[figure].title} over the read size")
                    parts.append(sweep_table(results, figure))
            continue
        parts.append(f"### {row.title}\n")
        picture(f"{row.name}.svg", row.title)
        parts.append(row_table(results, row))
    return "\n".join(parts)


def placed(page: str, report: str) -> str:
    """
    `page` with what stands between the marks replaced by `report`.

    An empty page becomes one with a heading; one without marks gets them at its end.

    :raises ValueError: if only one of the marks is there, or they stand in the wrong order.
    """
    block = f"{BEGIN}\n\n{report}\n{END}\n"
    start, end = page.find(BEGIN), page.find(END)
    if start < 0 and end < 0:
        return f"{page.rstrip()}\n\n{block}" if page.strip() else _HEADING + block
    if start < 0 or end < start:
        raise ValueError("the page has only one of the two marks, or has them in the wrong order")
    return page[:start] + block + page[end + len(END) :].removeprefix("\n")
