"""Tests of `portfwd.filters.chain.chain`: when the chain dials, where, and what a failed dial does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused
from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Await,
    Close,
    Delay,
    Factory,
    Filter,
    Forward,
    InetAddress,
    NeedMore,
    Reply,
    Route,
    Wake,
)
from portfwd.filters.chain.effects import (
    Arm,
    Begin,
    Disarm,
    Finish,
    PauseReading,
    ReadOn,
    SendEnd,
    StartDial,
    Trouble,
    Unseen,
    Write,
)
from portfwd.filters.chain.passage import MAX_EARLY
from tests.filters.scripted import UPSTREAM, Scripted, chain_of, nobody, script, seat, written

UP, DOWN = TO_UPSTREAM, TO_CLIENT
REFUSED = ConnectRefused("connection refused")


def routing(**answers: Any) -> tuple[Factory, Filter]:
    """A filter that routes, and has 3 seconds for it."""
    said = ("on_timeout", "on_overflow", "on_error", "max_hold")
    options = {name: answers.pop(name) for name in said if name in answers}
    return seat(Scripted(**answers), routes=True, **options)


class WhenTests(SynchronousTestCase):
    """When is dialled: once, and when everybody who routes has decided."""

    def test_at_once(self) -> None:
        """If no filter routes, when the session opens, after the filters were told."""
        chain = chain_of(Scripted(opened=Reply(b"hello")))
        self.assertEqual(chain.open(), [Write(DOWN, b"hello"), StartDial()])

    def test_route(self) -> None:
        """When the filter routes; what it passes waits here until then and until it is connected."""
        chain = chain_of(routing(received=script(NEED_MORE, [Route("there"), None])))
        self.assertEqual(chain.open(), [Arm(1, 3.0)])
        self.assertEqual(chain.received(UP, b"a"), [])
        self.assertEqual(chain.received(UP, b"b"), [Disarm(1), StartDial("there"), PauseReading(UP)])
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"ab"), ReadOn(UP)])

    def test_route_when_opened(self) -> None:
        """Who routes when opened needs no time."""
        self.assertEqual(chain_of(routing(opened=Route("there"))).open(), [StartDial("there")])
        self.assertEqual(chain_of(Scripted(opened=Route("there"))).open(), [StartDial("there")])

    def test_done(self) -> None:
        """Who is done with the client's bytes has decided: the rule's own target."""
        chain = chain_of(routing(received=DONE))
        chain.open()
        self.assertEqual(chain.received(UP, b"a"), [Disarm(1), StartDial(), PauseReading(UP)])

    def test_not_looking(self) -> None:
        """So has one that never looks at them, unless it waits for something."""
        unseeing = frozenset({DOWN})
        self.assertEqual(chain_of(seat(Scripted(), routes=True, directions=unseeing)).open(), [StartDial()])
        waiting: Deferred[object] = Deferred()
        asking = Scripted(opened=Await(waiting), resumed=lambda result: Route(result))
        chain = chain_of(seat(asking, routes=True, directions=unseeing))
        self.assertEqual(chain.open(), [PauseReading(UP), PauseReading(DOWN), Begin(1, waiting), Arm(2, 3.0)])
        self.assertEqual(chain.settled(1, "there"), [ReadOn(UP), ReadOn(DOWN), Disarm(2), StartDial("there")])

    def test_answered(self) -> None:
        """A result that brings no route is a decision too, where nothing is looked at."""
        asking = Scripted(opened=Await(Deferred()))
        chain = chain_of(seat(asking, routes=True, directions=frozenset()))
        chain.open()
        self.assertEqual(chain.settled(1, None)[-1], StartDial())

    def test_everybody(self) -> None:
        """All must have decided, each in its own time."""
        near, far = routing(received=script(None, DONE)), routing(received=script(Route("far")))
        chain = chain_of(near, far)
        self.assertEqual(chain.open(), [Arm(1, 3.0), Arm(2, 3.0)])
        self.assertEqual(chain.received(UP, b"a"), [Disarm(2)])
        self.assertEqual(chain.received(UP, b"b"), [Disarm(1), StartDial("far"), PauseReading(UP)])

    def test_announcing(self) -> None:
        """A filter may hold the dial without routing, in front of one that routes."""
        near = routing(received=script([Forward(b"hello"), DONE]))
        far = routing(received=lambda _, data: Route(data.decode()))
        chain = chain_of(near, far)
        chain.open()
        effects = chain.received(UP, b"PROXY hello")
        self.assertEqual(effects, [Disarm(1), Disarm(2), StartDial("hello"), PauseReading(UP)])

    def test_too_late(self) -> None:
        """A route after the dial is an error of the filter."""
        chain = chain_of(Scripted(received=Route("there")))
        chain.open()
        chain.connected(UPSTREAM)
        trouble, finish = chain.received(UP, b"x")
        assert isinstance(trouble, Trouble)
        self.assertIn("after the dial", str(trouble.error))
        text = f"filter a returned a wrong verdict from received: {trouble.error}"
        self.assertEqual(finish, Finish(text, abort=True, filter="a"))

    def test_never(self) -> None:
        """A session that ends before is not dialled."""
        chain = chain_of(routing(received=Close("no", b"bye")))
        chain.open()
        self.assertEqual(chain.received(UP, b"x"), [Write(DOWN, b"bye"), Finish("no", filter="a")])

    def test_decided_and_looking(self) -> None:
        """Who has routed may go on looking, and answer when it is connected."""
        one = routing(received=script(Route("there"), NEED_MORE), connected=[Reply(b"200"), DONE])
        chain = chain_of(one)
        chain.open()
        self.assertEqual(chain.received(UP, b"CONNECT"), [Disarm(1), StartDial("there"), PauseReading(UP)])
        chain.received(UP, b"early")
        self.assertEqual(
            chain.connected(UPSTREAM),
            [Write(UP, b"CONNECT"), Write(DOWN, b"200"), Write(UP, b"early"), ReadOn(UP), Unseen(UP)],
        )


class WhereTests(SynchronousTestCase):
    """Where to, if several have something to say."""

    def dial(self, *verdicts: Any) -> StartDial:
        """What is dialled if filters said these when they were opened."""
        (dial,) = chain_of(*(routing(opened=verdict) for verdict in verdicts)).open()
        assert isinstance(dial, StartDial)
        return dial

    def test_nearest_the_upstream(self) -> None:
        """The filter nearest the upstream has the last word, of those who name a target."""
        self.assertEqual(self.dial(Route("near"), Route("far")).target, "far")
        self.assertEqual(self.dial(Route("near"), Route()).target, "near")
        self.assertEqual(self.dial(Route(), DONE).target, None)

    def test_second_thoughts(self) -> None:
        """Of one filter the last word counts."""
        self.assertEqual(self.dial([Route("there", bool), Route("here")]), StartDial("here"))

    def test_permits(self) -> None:
        """An address must be permitted by everybody."""
        one, two = InetAddress("192.0.2.1", 1), InetAddress("192.0.2.2", 2)
        dial = self.dial(
            Route("x", lambda address: address != one), Route("y", lambda address: address != two)
        )
        assert dial.permits is not None
        self.assertEqual([dial.permits(address) for address in (one, two, UPSTREAM)], [False, False, True])
        alone = self.dial(Route("x", bool), Route("y"))
        self.assertIs(alone.permits, bool)
        self.assertIs(self.dial(Route("x")).permits, None)


class UndecidedTests(SynchronousTestCase):
    """Filters that route and cannot decide."""

    def test_time(self) -> None:
        """Its time is up: the session is closed, and the log says for whom and how long was waited."""
        chain = chain_of(routing(received=NEED_MORE))
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(chain.due(1), [Finish("filter a could not decide within 3s", filter="a")])

    def test_time_passes(self) -> None:
        """Or what it holds passes to the rule's own target, and it sees no more of the client."""
        one = routing(received=NEED_MORE, on_timeout="pass")
        chain = chain_of(one)
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(chain.due(1), [StartDial(), PauseReading(UP)])
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), ReadOn(UP), Unseen(UP)])

    def test_silent_client(self) -> None:
        """The same for a client that says nothing because the server speaks first."""
        chain = chain_of(routing(on_timeout="pass"))
        chain.open()
        self.assertEqual(chain.due(1), [StartDial()])
        chain.connected(UPSTREAM)
        self.assertEqual(chain.received(DOWN, b"220"), [Write(DOWN, b"220")])

    def test_time_while_awaiting(self) -> None:
        """A result that comes too late is not waited for, and told to nobody."""
        one = Scripted(received=script([NEED_MORE, Await(Deferred())]), resumed=Route("late"))
        chain = chain_of(seat(one, routes=True, on_timeout="pass"))
        chain.open()
        chain.received(UP, b"a")
        chain.received(UP, b"b")
        self.assertEqual(chain.due(1), [ReadOn(UP), StartDial(), PauseReading(UP)])
        self.assertEqual(chain.settled(2, None), [])
        self.assertEqual(written(chain.connected(UPSTREAM), UP), b"ab")
        self.assertEqual(one.told("resumed"), 0)

    def test_bytes(self) -> None:
        """Its bytes are full: the same."""
        for verdict in (NEED_MORE, NeedMore(5)):
            chain = chain_of(routing(received=verdict, max_hold=4))
            chain.open()
            self.assertEqual(
                chain.received(UP, b"x" * (5 if verdict is NEED_MORE else 1)),
                [Finish("filter a could not decide within 4 bytes", filter="a")],
            )

    def test_bytes_pass(self) -> None:
        """Or they pass."""
        chain = chain_of(routing(received=NEED_MORE, max_hold=4, on_overflow="pass"))
        chain.open()
        self.assertEqual(chain.received(UP, b"01234"), [Disarm(1), StartDial(), PauseReading(UP)])
        self.assertEqual(written(chain.connected(UPSTREAM), UP), b"01234")

    def test_end(self) -> None:
        """The client has ended, and will say no more: the same."""
        chain = chain_of(routing(received=NEED_MORE))
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(
            chain.ended(UP), [Finish("filter a could not decide before the client ended", filter="a")]
        )

    def test_end_passes(self) -> None:
        """Or bytes and end pass."""
        chain = chain_of(routing(received=NEED_MORE, on_timeout="pass"))
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [Disarm(1), StartDial()])
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), SendEnd(UP)])

    def test_decided_at_the_end(self) -> None:
        """At the end it may still decide."""
        for verdict, target in ((Route("there"), "there"), (DONE, None)):
            chain = chain_of(routing(received=NEED_MORE, ended=verdict))
            chain.open()
            chain.received(UP, b"x")
            self.assertEqual(chain.ended(UP), [Disarm(1), StartDial(target)])
            self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), SendEnd(UP)])

    def test_delayed_end(self) -> None:
        """A delayed end gives it no more time."""
        chain = chain_of(routing(ended=Delay(9), on_timeout="pass"))
        chain.open()
        self.assertEqual(chain.ended(UP), [Arm(2, 9)])
        self.assertEqual(chain.due(1), [StartDial()])
        self.assertEqual(chain.connected(UPSTREAM), [])
        self.assertEqual(chain.due(2), [SendEnd(UP)])

    def test_decided(self) -> None:
        """Who has routed and then holds too much breaks the session like any other."""
        chain = chain_of(routing(opened=Route("there"), received=NEED_MORE, max_hold=1, on_timeout="pass"))
        chain.open()
        (finish,) = chain.received(UP, b"01")
        self.assertEqual(finish, Finish("filter a could not decide within 1 byte", abort=True, filter="a"))

    def test_failure_is_bypassed(self) -> None:
        """Who is left out for an error holds up nothing."""
        chain = chain_of(routing(received=ValueError("no"), on_error="bypass"))
        chain.open()
        effects = chain.received(UP, b"x")
        self.assertEqual(effects[1:], [Disarm(1), StartDial(), PauseReading(UP)])


class EarlyTests(SynchronousTestCase):
    """Bytes of the client before there is an upstream."""

    def test_first_bytes(self) -> None:
        """What a filter says when it is connected is before what was read earlier: a PROXY header, say."""
        chain = chain_of(routing(received=DONE), Scripted(connected=Forward(b"PROXY ")))
        chain.open()
        chain.received(UP, b"hello")
        self.assertEqual(chain.connected(UPSTREAM)[:2], [Write(UP, b"PROXY "), Write(UP, b"hello")])

    def test_without_looking(self) -> None:
        """Also where that filter never looks at bytes."""
        header = seat(Scripted(connected=b"PROXY "), directions=frozenset())
        chain = chain_of(routing(received=DONE), header)
        chain.open()
        chain.received(UP, b"hello")
        self.assertEqual(
            chain.connected(UPSTREAM),
            [Write(UP, b"PROXY "), Write(UP, b"hello"), ReadOn(UP), Unseen(UP)],
        )

    def test_not_shown(self) -> None:
        """Filters behind the last one that routes see nothing of the client before; those in front do."""
        front, behind = Scripted(), Scripted()
        chain = chain_of(front, routing(received=DONE), behind)
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual((front.seen(), behind.seen()), ([b"x"], []))
        self.assertEqual(chain.held(UP), 1)
        chain.connected(UPSTREAM)
        self.assertEqual([call[0] for call in behind.calls], ["opened", "connected", "received"])

    def test_order(self) -> None:
        """What each said when opened, what it says when connected, then the client: filter by filter."""
        chain = chain_of(
            Scripted(opened=b"a1 ", connected=b"a2 "), Scripted(opened=b"b1 ", connected=b"b2 "), Scripted()
        )
        chain.open()
        chain.received(UP, b"x")
        chain.ended(UP)
        effects = chain.connected(UPSTREAM)
        self.assertEqual(written(effects, UP), b"b1 b2 a1 a2 x")
        self.assertEqual(effects[-1], SendEnd(UP))

    def test_answers_come_later(self) -> None:
        """What filters say to the client when connected comes before their answers to what was early."""
        near = Scripted(
            received=lambda way, _: Reply(b"answer ") if way is UP else None, connected=Reply(b"one ")
        )
        chain = chain_of(near, Scripted(connected=Reply(b"two ")))
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(written(chain.connected(UPSTREAM), DOWN), b"one two answer ")

    def test_upstream_is_known(self) -> None:
        """When it is connected, the connection knows to whom."""
        connection, one = nobody(), Scripted()
        chain = chain_of(one, connection=connection)
        chain.open()
        self.assertIs(connection.upstream, None)
        chain.connected(UPSTREAM)
        self.assertEqual((connection.upstream, one.calls[-1]), (UPSTREAM, ("connected", UPSTREAM)))

    def test_stop(self) -> None:
        """Once nobody needs to see more, reading stops at the first bytes, until it is connected."""
        chain = chain_of(Scripted())
        chain.open()
        self.assertEqual(chain.received(UP, b"x"), [PauseReading(UP)])
        self.assertEqual(chain.received(UP, b"y"), [])
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), Write(UP, b"y"), ReadOn(UP)])

    def test_bounded(self) -> None:
        """A filter that passes and never decides stops reading when too much waits."""
        for behind in ((), (Scripted(),)):
            chain = chain_of(routing(), *behind)
            chain.open()
            self.assertEqual(chain.received(UP, b"x" * MAX_EARLY), [])
            self.assertEqual(chain.received(UP, b"x"), [PauseReading(UP)])

    def test_replies(self) -> None:
        """The client is answered before there is an upstream."""
        near = Scripted(received=lambda way, data: data.upper() if way is DOWN else None)
        chain = chain_of(near, routing(received=[Reply(b"welcome"), NeedMore(rest=b"")]))
        chain.open()
        self.assertEqual(chain.received(UP, b"hello"), [Write(DOWN, b"WELCOME")])

    def test_end(self) -> None:
        """An end that comes before goes out behind everything."""
        chain = chain_of(routing(received=DONE), Scripted())
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [])
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), SendEnd(UP)])

    def test_nothing_is_unseen_before(self) -> None:
        """Nothing is relayed before, so nothing is said of what need not be shown."""
        chain = chain_of(routing(received=DONE))
        chain.open()
        self.assertNotIn(Unseen(UP), chain.received(UP, b"x"))


class DialFailedTests(SynchronousTestCase):
    """No upstream could be reached."""

    def test_reply(self) -> None:
        """Filters may tell the client; then the session ends in order."""
        one = Scripted(dial_failed=Reply(b"502"))
        chain = chain_of(one)
        chain.open()
        self.assertEqual(chain.dial_failed(REFUSED), [Write(DOWN, b"502"), Finish("connection refused")])
        self.assertEqual(one.calls[-1], ("dial_failed", REFUSED))

    def test_no_reply(self) -> None:
        """If none does, the client is reset, as it is without filters."""
        chain = chain_of(Scripted(dial_failed=b"nobody is there"))
        chain.open()
        self.assertEqual(chain.dial_failed(REFUSED)[-1], Finish("connection refused", abort=True))

    def test_through_the_chain(self) -> None:
        """A reply is seen by the filters nearer the client, and no delay keeps it."""
        near = Scripted(received=lambda _, data: Delay(9, data.upper()))
        chain = chain_of(near, Scripted(dial_failed=Reply(b"no"), opened=Reply(b"wait ")))
        self.assertIn(Arm(1, 9), chain.open())
        effects = chain.dial_failed(REFUSED)
        self.assertEqual(written(effects, DOWN), b"WAIT NO")
        self.assertEqual(effects[-1], Finish("connection refused"))

    def test_reason_of_a_filter(self) -> None:
        """A filter may give a reason of its own."""
        chain = chain_of(Scripted(dial_failed=Close("try elsewhere", b"elsewhere")))
        chain.open()
        self.assertEqual(
            chain.dial_failed(REFUSED), [Write(DOWN, b"elsewhere"), Finish("try elsewhere", filter="a")]
        )

    def test_error(self) -> None:
        """A filter that raises then makes an abort of it."""
        chain = chain_of(Scripted(dial_failed=ValueError("no")), Scripted(dial_failed=Reply(b"x")))
        chain.open()
        self.assertIsInstance(chain.dial_failed(REFUSED)[0], Trouble)
        self.assertTrue(chain.finished)

    def test_wake(self) -> None:
        """What is asked for later never comes."""
        one = Scripted(dial_failed=Wake(1))
        chain = chain_of(one)
        chain.open()
        chain.dial_failed(REFUSED)
        self.assertEqual((chain.due(1), one.told("woken")), ([], 0))
