"""
The differential script beside nginx and HAProxy: each difference to them has a name.

The differences are explained in ``docs/explanation/half-close.md``.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.values import Side
from tests.integration.case import needs_deep
from tests.integration.programs import needs, temporary_directory
from tests.integration.references import PROGRAMS, Reference
from tests.relay.stage import Outcome, Stage

C, U = Side.CLIENT, Side.UPSTREAM

Script = list[tuple[Side, str, int]]

#: Acts that break a connection, or may.
BREAKS = ("reset", "close")

SCRIPTS = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.sampled_from(
            ["send", "send", "send", "urgent", "end", "stop", "crawl", "resume", "reset", "close"]
        ),
        st.sampled_from([1, 100, 4_000, 50_000, 150_000]),
    ),
    max_size=7,
)


def differences(script: Script, ours: Outcome, theirs: Outcome) -> set[str]:
    """What is different, each by its name; ``unexplained`` with what was seen for all that has none."""
    found = set()
    broken = {side for side, act, _ in script if act in BREAKS}
    for side in Side:
        urgent = sum(1 for who, act, _ in script if who is side.other and act == "urgent")
        got, they_got = len(ours.received[side]), len(theirs.received[side])
        if not broken and got != they_got:
            lost = 0 < got - they_got <= urgent
            found.add("urgent byte lost" if lost else f"unexplained: {side.value} {got} {they_got} bytes")
        if ours.seen[side] != theirs.seen[side]:
            # What was sent before a reset is not known to be all.
            hidden = (ours.seen[side], theirs.seen[side]) == ("reset", "end") and side.other in broken
            seen = f"{side.value} {ours.seen[side]} {theirs.seen[side]}"
            found.add("reset passed on as an end" if hidden else f"unexplained: {seen}")
        elif ours.broken[side] != theirs.broken[side] and ours.seen[side] != "reset":
            # A reset behind an end, which the reference makes part of the end.
            hidden = ours.broken[side] and side.other in broken
            seen = f"{side.value} broken {ours.broken[side]} {theirs.broken[side]}"
            found.add("reset passed on as an end" if hidden else f"unexplained: {seen}")
    return found


class ReferenceTests(SynchronousTestCase):
    """Both programs, and portfwd on its stage."""

    #: Scripts, and what each program does otherwise.
    KNOWN: ClassVar[dict[str, tuple[Script, dict[str, set[str]]]]] = {
        "half close": ([(C, "send", 1000), (C, "end", 0), (U, "send", 5000), (U, "end", 0)], {}),
        "the mirror": ([(U, "send", 1000), (U, "end", 0), (C, "send", 5000), (C, "end", 0)], {}),
        "urgent": (
            [(C, "urgent", 10), (C, "send", 10)],
            {"nginx": {"urgent byte lost"}, "haproxy": {"urgent byte lost"}},
        ),
        "answered, closed unread": (
            [
                (U, "stop", 0),
                (C, "send", 5000),
                (U, "send", 2000),
                (U, "end", 0),
                (U, "close", 0),
                *[(C, "send", 1000)] * 3,
            ],
            {},
        ),
        "reset by the upstream": (
            [(C, "send", 10), (U, "send", 10), (U, "reset", 0)],
            {"nginx": {"reset passed on as an end"}, "haproxy": {"reset passed on as an end"}},
        ),
        "reset by the client": (
            [(C, "send", 20_000), (C, "reset", 0)],
            {"nginx": {"reset passed on as an end"}},
        ),
        "reset behind an end": (
            [(C, "end", 0), (C, "reset", 0)],
            {"nginx": {"reset passed on as an end"}, "haproxy": {"reset passed on as an end"}},
        ),
        "slow reader": (
            [(C, "stop", 0), (U, "send", 200_000), (U, "end", 0), *[(C, "crawl", 30_000)] * 4],
            {},
        ),
    }

    def setUp(self) -> None:
        """Both programs at work."""
        for program in PROGRAMS:
            needs(program)
        directory = temporary_directory(self)
        directory.chmod(0o755)
        self.references = []
        for program in PROGRAMS:
            reference = Reference(program, directory)
            self.addCleanup(reference.close)
            self.references.append(reference)
        self.stage = Stage("linger=1000s half-close=1000s", kinds=("auto",))
        self.addCleanup(self.stage.close)

    def compare(self, script: Script) -> dict[str, set[str]]:
        """What each of them does otherwise."""
        ours = self.stage.finish(self.stage.play("auto", "tcp", script))
        found = {}
        for reference in self.references:
            session = reference.play(script)
            different = differences(script, ours, session.outcome())
            if different:
                found[reference.name] = different
            session.client.close()
            session.upstream.close()
        return found

    def test_known_scripts(self) -> None:
        """Each difference is the one that is written down."""
        for name, (script, expected) in self.KNOWN.items():
            self.assertEqual(self.compare(script), expected, name)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(script=SCRIPTS)
    def check_any(self, script: Script) -> None:
        """No difference is unexplained."""
        for program, different in self.compare(script).items():
            for one in different:
                self.assertFalse(one.startswith("unexplained"), f"{program} {script} {one}")

    def test_any_script(self) -> None:
        """Whatever the script, no difference is unexplained."""
        needs_deep()
        self.check_any()
