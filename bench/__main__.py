# -*- test-case-name: tests.bench.test_main -*-
"""
``python -m bench``: the lab in one command.

Without options every row is measured with seven rounds, which takes about two
hours; ``--quick`` stays below six minutes; ``--only GROUP`` measures one group.
The raw results go to ``bench/results``, the tables to the terminal, and after
a whole run, or with ``--publish``, also into ``docs/explanation``.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from bench import evidence, measure, report
from bench.compared import SUFFIX, compared
from bench.lab import Lab
from bench.loads import programme
from bench.loads.api import FULL, QUICK, SMOKE, Load
from bench.peers.checkout import ROOT, commit
from bench.peers.field import beside, contestants, present
from bench.processes import raise_descriptors
from bench.results import Results, Row, describe_machine, from_json, joined, to_json
from bench.rounds import Sample

RESULTS: Final = ROOT / "bench" / "results"
PAGE: Final = ROOT / "docs" / "explanation" / "performance.md"
#: Of the six minutes that ``--quick`` promises, the rest is for the sample that is just running.
QUICK_SECONDS: Final = 320.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench", description="The lab: portfwd beside its peers.")
    made.add_argument(
        "--quick", action="store_true", help="fewer rows, rounds and seconds: below six minutes"
    )
    made.add_argument(
        "--smoke", action="store_true", help="every row once with next to no work: does it run?"
    )
    made.add_argument("--only", action="append", metavar="NAME", help="a group or a row; may be repeated")
    made.add_argument("--peers", metavar="A,B", help="only these contestants")
    made.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="this project's contestants from another checkout too, and the ratio to it",
    )
    made.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds (7; --quick 2, --smoke 1)")
    made.add_argument("--loopback", action="store_true", help="no namespaces even where they can be had")
    made.add_argument("--list", action="store_true", help="show rows and contestants and measure nothing")
    made.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where raw results go")
    made.add_argument(
        "--publish", action="store_true", help="write tables and pictures into docs/explanation"
    )
    made.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        nargs="+",
        help="make the tables of earlier results files, which have different rows",
    )
    evidence.add_options(made)
    return made


def chosen(rows: Sequence[Load], only: Sequence[str] | None, quick: bool) -> list[Load]:
    """
    The rows to measure.

    :raises ValueError: naming a word of `only` that is neither a group nor a row.
    """
    if only:
        for word in only:
            if not any(word in (row.group, row.name) for row in rows):
                groups = ", ".join(dict.fromkeys(row.group for row in rows))
                raise ValueError(f"no group or row {word!r}; groups are {groups}")
        rows = [row for row in rows if row.group in only or row.name in only]
        if any(row.name in only for row in rows):
            return list(rows)
    return [row for row in rows if row.in_quick or not quick]


def _listed(loopback: bool) -> None:
    with Lab(loopback) as lab:
        peers = contestants(lab.scratch)
        versions, absent = present(peers)
        print(f"lab: {_place(lab)}\n\ncontestants")
        for peer in peers:
            said = versions.get(peer.name) or f"ABSENT: {absent[peer.name]}"
            print(f"  {peer.name:19} {peer.about:52} {said}")
        print("\nrows (group, name, title; * in --quick)")
        for row in programme.rows():
            skipped = row.skipped(lab.scratch)
            mark = "*" if row.in_quick and not skipped else " "
            print(
                f"{mark} {row.group:12} {row.name:24} {row.title}{f' (skipped: {skipped})' * bool(skipped)}"
            )


def _place(lab: Lab) -> str:
    return f"loopback ({lab.why_loopback})" if lab.is_loopback else "three network namespaces"


def _measured(options: argparse.Namespace, rows: Sequence[Load]) -> Results:
    plan = measure.Plan(7, FULL)
    if options.quick:
        plan = measure.Plan(2, QUICK, time.monotonic() + QUICK_SECONDS)
    if options.smoke:
        plan = measure.Plan(1, SMOKE)
    if options.rounds:
        plan = measure.Plan(options.rounds, plan.scale, plan.deadline)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    done: list[Row] = []
    samples: list[Sample] = []
    with Lab(options.loopback) as lab:
        peers = contestants(lab.scratch)
        if options.beside is not None:
            peers = beside(peers, lab.scratch, options.beside.resolve())
        versions, absent = present(peers)
        if options.quick and not options.peers:
            for peer in peers:
                if not peer.in_quick and versions.pop(peer.name, ""):
                    absent[peer.name] = "not in --quick"
        if options.peers:
            wanted = options.peers.split(",")
            versions = {
                name: version for name, version in versions.items() if name.removesuffix(SUFFIX) in wanted
            }
        there = [peer for peer in peers if peer.name in versions]
        for name, why in absent.items():
            print(f"left out: {name}: {why}", file=sys.stderr)
        for load in rows:
            row, more = measure.run_row(lab, load, there, plan, lambda line: print(line, file=sys.stderr))
            done.append(row)
            samples += more
        place = _place(lab)
    return Results(
        date,
        commit(),
        describe_machine(),
        place,
        {"rounds": plan.rounds, "quick": options.quick, "smoke": options.smoke, "only": options.only or []},
        versions,
        {peer.name: peer.about for peer in there},
        absent,
        tuple(done),
        tuple(samples),
    )


def publish(results: Results, page: Path) -> None:
    """Write the tables into `page`, and the pictures into the folder of the same name beside it."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = report.draw(results)
    for name, text in pictures.items():
        (folder / name).write_text(text)
    before = page.read_text() if page.exists() else ""
    page.write_text(report.placed(before, report.markdown(results, pictures, folder.name)))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    options = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    # Before the rows are made: some depend on it.
    raise_descriptors()
    if evidence.is_asked(options):
        return evidence.main(options)
    if options.list:
        _listed(options.loopback)
        return 0
    if options.report:
        try:
            results = joined([from_json(path.read_text()) for path in options.report])
        except ValueError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        whole = False
    else:
        try:
            rows = chosen(programme.rows(), options.only, options.quick)
        except ValueError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        results = _measured(options, rows)
        whole = not (options.only or options.quick or options.smoke or options.peers or options.beside)
        options.out.mkdir(parents=True, exist_ok=True)
        stamp = results.date[:19].replace(":", "").replace("-", "").replace("T", "-")
        raw = options.out / f"{stamp}-{results.commit.rstrip('+')}.json"
        raw.write_text(to_json(results))
        print(f"raw results: {raw}", file=sys.stderr)
    print(compared(results) if options.beside is not None else report.markdown(results, {}, ""))
    if options.publish or whole:
        publish(results, PAGE)
        print(f"written: {PAGE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
