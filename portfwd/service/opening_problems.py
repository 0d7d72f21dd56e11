# -*- test-case-name: tests.service.test_opening_problems -*-
"""
What a start would refuse to open for operators, told by ``check``: directories of sockets and files of keys.

It looks at the same specs that a start opens, binds nothing and makes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from portfwd.admin.tight_files import LooseFile, check_private, read_tight
from portfwd.rules.admin_lines import admin_specs, manhole_specs
from portfwd.rules.diagnostics import Location, Problem
from portfwd.rules.findings import shown
from portfwd.rules.model import Kind, Ruleset
from portfwd.rules.whole_process import metrics_listener
from portfwd.values import UnixAddress


def opening_problems(ruleset: Ruleset) -> tuple[Problem, ...]:
    """Every problem, in the order of the kinds of lines."""
    return tuple(_problems(ruleset))


def _problems(ruleset: Ruleset) -> Iterator[Problem]:
    for admin in admin_specs(ruleset):
        yield from _directory(admin.path, admin.where)
    metrics = metrics_listener(ruleset)
    if metrics is not None and metrics.kind is Kind.UNIX:
        yield from _directory(metrics.path, metrics.where)
    for manhole in manhole_specs(ruleset):
        if isinstance(manhole.address, UnixAddress):
            missing = tuple(_directory(manhole.address.path, manhole.where))
            yield from missing
            if not missing:
                yield from _tight(
                    lambda path: check_private(os.path.dirname(path)),
                    os.path.abspath(manhole.address.path),
                    manhole.where,
                )
        yield from _tight(read_tight, os.path.abspath(manhole.keys), manhole.where)


def _directory(path: str, where: Location) -> Iterator[Problem]:
    directory = os.path.dirname(os.path.abspath(path))
    if not path.startswith("@") and not os.path.isdir(directory):
        yield Problem(
            where, "bad-path", f"there is no directory {shown(directory)}", "make it before the start"
        )


def _tight(look: Callable[[str], object], path: str, where: Location) -> Iterator[Problem]:
    try:
        look(path)
    except LooseFile as problem:
        yield Problem(where, "unreadable-file", str(problem))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        yield Problem(where, "unreadable-file", f"{shown(path)} cannot be read: {reason}")
