"""The model by itself: what it says of rules, clients, operators and reloads."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.model import DRAINED, KILLED, LIMIT, MOVING, NORMAL, PAUSED, SHARED, Model, Spec

A = Spec("a", "tcp", "127.0.0.1", "1")
B = Spec("b", "tcp", "127.0.0.1", "2")


class ModelTests(SynchronousTestCase):
    """`Model`."""

    def model(self, *specs: Spec) -> Model:
        """One that has these rules."""
        model = Model(address="127.0.0.3")
        model.rules = {spec.name: spec for spec in specs}
        return model

    def reload(self, model: Model, *specs: Spec) -> None:
        """Other rules, with the same certificate and address."""
        model.reload(specs, model.certificate, model.address)

    def test_session(self) -> None:
        """A client is served, and counted when it leaves."""
        model = self.model(A)
        self.assertEqual((model.connect(1, "a"), model.active()), ("served", {"a": 1}))
        model.leave(1)
        self.assertEqual((model.closed, model.totals, model.active()), ({("a", NORMAL): 1}, {"a": 1}, {}))

    def test_a_name_that_is_used_again(self) -> None:
        """Sessions of a removed rule count for its name, and its counter may go on under it."""
        model = self.model(A)
        for client in (1, 2):
            model.connect(client, "a")
        model.leave(2)
        self.reload(model, B)
        self.reload(model, B, moved := evolve(A, place="3", most=2))
        self.assertFalse(model.is_full(moved))
        model.connect(3, "a")
        self.assertTrue(model.is_full(moved))
        self.reload(model, B)
        for client in (1, 3):
            model.leave(client)
        self.assertEqual((model.totals, model.former), ({}, {"a": 3}))
        self.reload(model, B, A)
        model.connect(4, "a")
        for real, expected in ((1, 1), (4, 4), (4, 4)):
            model.remember({"a": real, "b": 0})
            self.assertEqual(model.totals["a"], expected)

    def test_certificate_of_a_rule_that_is_gone(self) -> None:
        """Who waits is served by the rule as it was, with the certificate that it had."""
        model = self.model(A)
        model.pause("a")
        model.connect(1, "a")
        model.reload([B], 1, model.address)
        self.assertEqual((model.sessions[1].certificate, model.certificate), (0, 1))

    def test_limits(self) -> None:
        """One too many is refused or waits; who waits is served when another one leaves."""
        model = self.model(evolve(A, most=1), evolve(B, most=1, wait=True))
        for name, outcome in (("a", "refused"), ("b", "waits")):
            model.connect(1, name)
            self.assertEqual(model.connect(2, name), outcome)
            model.leave(1)
        self.assertEqual((model.active(), model.closed["a", LIMIT], model.reset), ({"b": 1}, 1, [2]))

    def test_shared_limit(self) -> None:
        """Rules that share a limit are full together."""
        model = self.model(evolve(A, shares=True), evolve(B, shares=True))
        outcomes = [model.connect(number, "ab"[number % 2]) for number in range(SHARED + 1)]
        self.assertEqual(outcomes, ["served"] * SHARED + ["refused"])

    def test_pause(self) -> None:
        """Clients of a paused rule wait until it is resumed; drained, it listens nowhere."""
        model = self.model(A)
        model.pause("a")
        self.assertEqual((model.connect(1, "a"), model.state("a")), ("waits", PAUSED))
        model.resume("a")
        self.assertEqual((model.active(), model.state("a")), ({"a": 1}, "accepting"))
        model.drain("a")
        self.assertEqual((model.active(), model.state("a"), model.listening()), ({"a": 1}, "draining", set()))
        model.leave(1)
        self.assertEqual(model.state("a"), DRAINED)

    def test_drain_turns_late_clients_away(self) -> None:
        """Who waits for a limit when a rule is drained is reset."""
        model = self.model(evolve(A, most=1, wait=True))
        model.connect(1, "a")
        model.connect(2, "a")
        model.drain("a")
        self.assertEqual((model.reset, model.waiting), ([2], []))

    def test_kill(self) -> None:
        """Sessions end by the names that they began under; who waits is served."""
        model = self.model(evolve(A, most=1, wait=True))
        model.connect(1, "a")
        model.connect(2, "a")
        model.kill("a")
        self.assertEqual((model.closed, list(model.sessions)), ({("a", KILLED): 1}, [2]))

    def test_renamed(self) -> None:
        """Sessions keep their name, and count for the rule that has their listener."""
        model = self.model(evolve(A, most=1))
        model.connect(1, "a")
        self.reload(model, evolve(A, name="c", most=1))
        self.assertEqual((model.active(), model.connect(2, "c")), ({"a": 1}, "refused"))

    def test_names_swapped(self) -> None:
        """Two rules that change their names change the places of their sessions."""
        model = self.model(A, B)
        model.connect(1, "a")
        model.connect(2, "b")
        self.reload(model, evolve(A, name="b"), evolve(B, name="a"))
        self.assertEqual([model.sessions[number].place for number in (1, 2)], ["b", "a"])

    def test_removed(self) -> None:
        """Sessions stay or are cut; who waits is served, or reset where sessions are cut."""
        for cut, closed, reset in ((False, {}, []), (True, {("a", KILLED): 1}, [2])):
            model = self.model(evolve(A, cut=cut), B)
            model.connect(1, "a")
            model.pause("a")
            model.connect(2, "a")
            self.reload(model, B)
            self.assertEqual((model.closed, model.reset), (closed, reset))
            self.assertEqual(model.active(), {} if cut else {"a": 2})

    def test_removed_at_a_limit(self) -> None:
        """A client of a removed rule waits on for its limit."""
        model = self.model(evolve(A, most=1, wait=True), B)
        model.connect(1, "a")
        model.connect(2, "a")
        self.reload(model, B)
        self.assertEqual([one.late for one in model.waiting], [True])
        model.leave(1)
        self.assertEqual(list(model.sessions), [2])

    def test_pause_stays_with_the_name(self) -> None:
        """It goes where the rule goes, and ends with the rule."""
        model = self.model(A, B)
        model.pause("a")
        self.reload(model, evolve(A, place="3"), evolve(B, place="1"))
        self.assertEqual((model.state("a"), model.state("b")), (PAUSED, "accepting"))
        self.reload(model, B)
        self.reload(model, A, B)
        self.assertEqual(model.state("a"), "accepting")

    def test_drained_takes_no_listener(self) -> None:
        """A drained rule at another's place listens not; that one's sessions have no heir."""
        model = self.model(A, B)
        model.connect(1, "b")
        model.drain("a")
        self.reload(model, evolve(A, place="2"))
        self.assertEqual((model.listening(), model.sessions[1].heir), (set(), None))

    def test_name_that_moves(self) -> None:
        """Rules on the name listen where it is; clients who waited are late."""
        model = self.model(evolve(A, host=MOVING))
        model.pause("a")
        model.connect(1, "a")
        self.assertEqual(model.listening(), {("127.0.0.3", "1")})
        model.reload([evolve(A, host=MOVING)], 1, "127.0.0.4")
        self.assertEqual(
            (model.listening(), model.active(), model.certificate), ({("127.0.0.4", "1")}, {"a": 1}, 1)
        )

    def test_lost_file(self) -> None:
        """A reload makes a file again, and so does the end of a drain."""
        spec = Spec("a", "unix", "", "s")
        model = self.model(spec)
        model.lose("s")
        model.resume("a")
        self.assertEqual(model.lost, {"s"})
        self.reload(model, spec)
        self.assertEqual(model.lost, set())

    def test_counters_end_with_the_name(self) -> None:
        """A name that has neither rule nor session begins anew."""
        model = self.model(A, B)
        model.connect(1, "a")
        self.reload(model, B)
        self.assertEqual(model.totals["a"], 1)
        model.leave(1)
        self.reload(model, B)
        self.assertEqual(model.totals["a"], 0)

    def test_refused(self) -> None:
        """A refused reload is counted, and nothing else."""
        model = self.model(A)
        model.refused()
        self.assertEqual((model.reloads, model.failures, list(model.rules)), (0, 1, ["a"]))
