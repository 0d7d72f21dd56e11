# -*- test-case-name: tests.service.run.test_transition -*-
"""
The end of a reload: all parts of the process change to the new rules, or stay with the old ones.

These steps do not fail. An exception is logged and noted in the result, and the other steps continue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen
from twisted.logger import Logger

from portfwd.limits.admission import AdmissionRegistry
from portfwd.relay.loops import Loops
from portfwd.relay.rule import SessionLog
from portfwd.rules.model import SYSTEMD_KINDS, OnRemove, Ruleset
from portfwd.rules.steps import Steps
from portfwd.rules.whole_process import overall_limits, shared_limits
from portfwd.service.build.addresses import tell_where
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import Binder
from portfwd.service.run.retired_rules import RetiredRules
from portfwd.service.run.transition import Transition


@frozen
class Switching:
    """The parts of a process besides its listeners."""

    _binder: Binder
    _retired_rules: RetiredRules
    _admissions: AdmissionRegistry
    _loops: Loops

    def undo(self, change: Transition) -> Steps[None]:
        """Nothing was changed: serve clients that arrived meanwhile by the old rules."""
        yield from change.undo()
        yield from self._serve(change)

    def apply(
        self,
        change: Transition,
        ruleset: Ruleset,
        log: SessionLog,
        before: Sequence[Bound],
        took: Callable[[], None],
    ) -> Steps[None]:
        """
        Activate the new rules.

        :param before: the previous listeners.
        :param took: called as soon as clients get the new rules.
        """
        surely = change.surely
        unused = self._binder.unused
        surely("taking systemd's sockets", unused.refuse, systemd_names((*before, *change.fresh)))
        yield from change.switch()
        took()
        limits, shared = overall_limits(ruleset), shared_limits(ruleset)
        if (limits, shared) != (self._admissions.overall, self._admissions.shared):
            surely("changing the limits of all rules", self._admissions.bound, limits, shared)
            for one in change.bound:
                surely(f"{one.live.name}: changing its limits", one.live.limit)
                surely(f"{one.live.name}: changing its limits", one.judge)
                yield
        for live, late in change.late:
            surely(f"{live.name}: keeping clients that waited", self._retired_rules.keep, live, late)
            yield
        change.late.clear()
        for old, new in change.replaced:
            surely(f"{new.name}: replacing", self._retired_rules.replace, old, new)
            yield
        for live in change.removed:
            yield from change.surely_all(f"{live.name}: removing", self._retired_rules.remove(live))
        for live in (*(old for old, _ in change.replaced), *change.removed):
            if live.sessions and live not in self._retired_rules:
                # Even after an exception, sessions must be listed, and end with the process.
                surely(f"{live.name}: keeping its sessions", self._retired_rules.leave, live, OnRemove.STAY)
            yield
        lives = [one.live for one in change.bound]
        yield from change.surely_all("counting sessions", self._retired_rules.count_sessions(lives))
        # Only after all sessions are counted for the limits.
        surely("serving clients that waited", self._retired_rules.serve_all)
        for live in (*lives, *self._retired_rules):
            live.log = log
            yield
        surely("refusing clients of systemd's sockets", unused.refuse, systemd_names(change.bound))
        surely("telling addresses", tell_where, Logger(), self._loops, change.fresh)

    def _serve(self, change: Transition) -> Steps[None]:
        for live, late in change.late:
            change.surely(f"{live.name}: serving clients that waited", self._retired_rules.serve, live, late)
            yield
        change.late.clear()


def systemd_names(bounds: Iterable[Bound]) -> set[str]:
    """The names of systemd's sockets on which rules listen."""
    listens = (one.live.rule.listen for one in bounds if not one.closed)
    return {listen.path for listen in listens if listen.kind in SYSTEMD_KINDS}
