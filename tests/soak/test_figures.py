"""What a soak says of figures that are not as they were."""

from __future__ import annotations

from collections import Counter

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.figures import HEAP, MEMORY, SPARE, Figures
from tests.soak.inside import state

BEFORE = Figures(
    memory=50 << 20,
    descriptors=Counter({"/dev/null": 1, "tcp 0100007F:1F90 to 00000000:0000 in state 0A": 1, "pipe": 2}),
    lent=0,
    taken=10,
    objects=Counter({"portfwd.relay.session.Session": 3}),
    timers=Counter({"Names._renew": 1}),
    blocks=1000,
    heap=1 << 20,
    sessions={"a": 1},
    moved={"a": 2},
)


class ComplaintTests(SynchronousTestCase):
    """A complaint names what differs."""

    def test_same(self) -> None:
        """Figures that are as they were are no complaint, and neither is less memory."""
        self.assertEqual(list(BEFORE.complaints(BEFORE)), [])
        self.assertEqual(list(evolve(BEFORE, memory=1, sessions={"a": 9}).complaints(BEFORE)), [])

    def test_more(self) -> None:
        """Each kind of difference has its own complaint, which says what there is now."""
        session = {"portfwd.relay.session.Session": 4 + SPARE}
        for change, words in (
            ({"memory": BEFORE.memory + MEMORY + 1, "blocks": 1500}, "50.0 to 55.0 MiB; .* [+]500 blocks"),
            ({"heap": BEFORE.heap + HEAP + 1}, "2.0 MiB more are in use"),
            ({"objects": Counter(session)}, f"{SPARE + 1} portfwd.relay.session.Session"),
            ({"descriptors": BEFORE.descriptors + Counter(["pipe"])}, "not open: 1 pipe; that were: none"),
            ({"descriptors": Counter({"pipe": 4, "/dev/null": 1})}, "not open: 2 pipe; that were: 1 tcp "),
            ({"taken": 12}, "12 descriptors are counted, 10 were"),
            ({"timers": BEFORE.timers + Counter(["Dial._late"])}, "not there: 1 Dial._late"),
            ({"lent": 1}, "1 pipes are lent"),
        ):
            (complaint,) = evolve(BEFORE, **change).complaints(BEFORE)
            self.assertRegex(complaint, words)

    def test_inside(self) -> None:
        """A process can tell its own figures."""
        told = state()
        self.assertGreater(told["blocks"], 0)
        self.assertEqual(set(told), {"objects", "timers", "blocks", "heap"})
