# -*- test-case-name: tests.bench.test_results -*-
"""
One measurement as it is kept: the samples, and all that is needed to judge them later.

It is written as JSON and read back; tables and pictures are made from it alone,
so they can be made again at any time.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import asdict, evolve, field, frozen

from bench.rounds import Sample

SCHEMA: Final = 1


@frozen
class Row:
    """
    A row of the lab as it was run.

    :ivar skipped: why it was not measured; empty if it was.
    """

    name: str
    group: str
    title: str
    skipped: str = ""


@frozen
class Results:
    """
    A whole measurement.

    :ivar date: ISO 8601, UTC.
    :ivar commit: of the checkout; ``+`` when files differed from it.
    :ivar lab: ``three network namespaces``, or ``loopback`` with the reason.
    :ivar versions: of each contestant that was there.
    :ivar about: the setting of each.
    :ivar absent: the reason for each that was not.
    """

    date: str
    commit: str
    machine: Mapping[str, str]
    lab: str
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    about: Mapping[str, str]
    absent: Mapping[str, str]
    rows: tuple[Row, ...] = ()
    samples: tuple[Sample, ...] = field(default=(), repr=False)


def to_json(results: Results) -> str:
    """The text of a results file, one sample a line."""
    fields = asdict(results)
    samples = fields.pop("samples")
    head = json.dumps({"schema": SCHEMA, **fields}, indent=1, ensure_ascii=False)
    lines = ",\n  ".join(json.dumps(sample, ensure_ascii=False) for sample in samples)
    return f'{head[:-2]},\n "samples": [\n  {lines}\n ]\n}}\n'


def from_json(text: str) -> Results:
    """
    Read a results file.

    :raises ValueError: if it is none, or of another schema.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("schema", None) != SCHEMA:
        raise ValueError(f"not a results file of schema {SCHEMA}")
    fields["rows"] = tuple(Row(**row) for row in fields["rows"])
    fields["samples"] = tuple(Sample(**sample) for sample in fields["samples"])
    return Results(**fields)


def joined(parts: Sequence[Results]) -> Results:
    """
    Several runs as one: groups of rows may be measured one after another, with the peers that matter there.

    :param parts: one at least.
    :raises ValueError: they are of different machines, commits or labs, or share a row.
    """
    first, *others = parts
    for other in others:
        for what, one, another in (
            ("machines", first.machine, other.machine),
            ("commits", first.commit, other.commit),
            ("labs", first.lab, other.lab),
        ):
            if one != another:
                raise ValueError(f"results of different {what}: {one} and {another}")
    rows = [row for part in parts for row in part.rows]
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"more than one of these results has the row {', '.join(twice)}")
    versions = {name: version for part in parts for name, version in part.versions.items()}
    return evolve(
        first,
        options={
            **first.options,
            "rounds": min(part.options["rounds"] for part in parts),
            "only": [name for part in parts for name in part.options.get("only", ())],
        },
        versions=versions,
        about={name: about for part in parts for name, about in part.about.items()},
        absent={name: why for part in parts for name, why in part.absent.items() if name not in versions},
        rows=tuple(rows),
        samples=tuple(sample for part in parts for sample in part.samples),
    )


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, kernel, distribution and Python of this machine."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2**30
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        distribution = "unknown"
    return {
        "processor": cpu,
        "cores": str(os.cpu_count()),
        "memory": f"{gib:.0f} GiB",
        "kernel": platform.release(),
        "distribution": distribution,
        # Distributions build theirs with profiles, which is worth a tenth of its speed.
        "python": platform.python_version() + " of the distribution" * (sys.base_prefix == "/usr"),
    }
