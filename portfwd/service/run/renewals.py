# -*- test-case-name: tests.service.run.test_renewals -*-
"""
What a reload renews for rules whose text is the same: files, and the sockets of listeners.

Files of TLS and of filters are read again at each reload, and a listener's name is looked up again. The lines
of this module tell what of it was different. They name files and addresses, but not the options of filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol, runtime_checkable

from attrs import define

from portfwd.relay.live import LiveRule
from portfwd.rules.steps import Steps
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import Planned
from portfwd.service.run.matching import ListenerRenewal, Port
from portfwd.service.tls.certificate_watch import every_side
from portfwd.service.tls.file_watch import FileWatch

#: Most files that one line names; a directory may have thousands.
MOST_NAMED: Final = 4


@define(eq=False)
class WantedPort:
    """
    A port that needs sockets.

    :ivar before: the previous listener, whose sockets cannot be used.
    :ivar made: the new listener.
    """

    port: Port
    planned: Planned
    before: Bound | None = None
    renewal: ListenerRenewal | None = None
    made: Bound | None = None


@runtime_checkable
class WatchesFiles(Protocol):
    """A side of TLS with files."""

    @property
    def watch(self) -> FileWatch | None:
        """The files, as they were read; None if it has no clock."""


def renewed(
    handed: Iterable[tuple[Bound, Port, Planned]], wanted: Iterable[WantedPort]
) -> Steps[tuple[str, ...]]:
    """
    A line for each rule whose text is the same and whose files or sockets are not.

    :param handed: listeners that go on with new live rules.
    :param wanted: ports with new sockets.
    """
    lines: list[str] = []
    for bound, _, planned in handed:
        lines += _of_rule(bound.live, planned.live)
        yield
    for one in wanted:
        if one.before is not None and one.before.live.rule == one.port.rule:
            lines += _of_rule(one.before.live, one.planned.live)
            if one.renewal is not None and not one.before.closed:
                lines += _of_sockets(one, one.before)
        yield
    return tuple(dict.fromkeys(lines))


def _of_rule(before: LiveRule, after: LiveRule) -> Iterator[str]:
    if before is after or before.rule != after.rule:
        return
    name = after.rule.name
    files = dict.fromkeys(
        path for old, new in zip(_watches(before), _watches(after), strict=False) for path in new.since(old)
    )
    if files:
        yield f"{name}: certificates read again: {_named(list(files))}"
    again = [
        filter_name
        for (filter_name, new), (_, old) in zip(after.filters, before.filters, strict=False)
        if new is not old
    ]
    if again:
        yield f"{name}: made again, as its files or code are different: filter {_named(again)}"


def _watches(live: LiveRule) -> list[FileWatch]:
    """The files of each side of TLS, in the order of the rule."""
    found = [one.watch for one in every_side(live) if isinstance(one, WatchesFiles)]
    return [one for one in found if one is not None]


def _of_sockets(wanted: WantedPort, before: Bound) -> Iterator[str]:
    kept = [] if wanted.renewal is None else wanted.renewal.kept
    new = [] if wanted.made is None else [str(one.address) for one in wanted.made.listeners]
    gone = [str(one.address) for one in before.listeners if one not in kept]
    name = wanted.planned.live.name
    if wanted.made is None or new == gone:
        yield f"{name}: its socket is made again"
        return
    parts = [f"listens on {_named(new)}"] if new else []
    parts += [f"no longer on {_named(gone)}"] if gone else []
    yield f"{name}: {', '.join(parts)}"


def _named(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
