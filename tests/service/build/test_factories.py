"""Tests of `portfwd.service.build.factories`: the life of a clause's factory, in a running forwarder."""

from __future__ import annotations

import json
from typing import Any

from portfwd.errors import StartError
from portfwd.logs.json_lines import json_line
from portfwd.rules import parse
from portfwd.service.build.factories import Factories, Kept
from portfwd.service.build.filters import filter_problems
from portfwd.service.embed import forward
from tests.service.build.living import EVENTS
from tests.service.run.test_reload import ReloadCase

LIVING = "filter python:tests.service.build.living.PLUGIN"


class LifeTests(ReloadCase):
    """When factories are made, started and stopped."""

    def setUp(self) -> Any:
        EVENTS.clear()
        return super().setUp()

    def rule(self, *words: str, name: str = "a") -> str:
        """A rule with such a clause for each word."""
        clauses = "".join(f"    {LIVING} {word}\n" for word in words)
        return f"{name}: 127.0.0.1:0 -> {self.target}\n{clauses}"

    def test_check(self) -> None:
        """A check configures a factory and does not start it."""
        self.assertEqual(filter_problems(parse(self.rule("x"), "f")), ())
        self.assertEqual(EVENTS, [("configure", "x")])

    def test_embedding(self) -> None:
        """A program that forwards configures each clause once, before anything is started."""
        forward(__import__("twisted.internet.reactor").internet.reactor, parse(self.rule("x"), "f"))
        self.assertEqual(EVENTS, [("configure", "x")])

    async def test_start_and_stop(self) -> None:
        """A factory is started with the forwarder, once, and stopped behind its last session."""
        forwarder = self.started(self.rule("x", "y"))
        begun = [("configure", "x"), ("configure", "y"), ("start", "x"), ("start", "y")]
        self.assertEqual(EVENTS, begun)
        client, upstream = await self.session(forwarder)
        stopped = forwarder.stopService()
        self.assertEqual(EVENTS, begun)
        client.close()
        upstream.close()
        await stopped
        self.assertEqual(EVENTS, [*begun, ("stop", "x"), ("stop", "y")])

    async def test_services(self) -> None:
        """A factory is told its rule and gets metrics; what a filter notes is in the line of its session."""
        forwarder = self.started(self.rule("x"))
        client, upstream = await self.session(forwarder)
        factory = forwarder.rules[0].filters[0][1]
        assert factory.services is not None  # type: ignore[attr-defined]
        self.assertEqual(factory.services.rule, "a")  # type: ignore[attr-defined]
        ((metric,),) = forwarder.filter_metrics.families()
        name = "python:tests.service.build.living.PLUGIN"
        self.assertEqual(list(metric.samples()), [(("a", name), 1)])
        client.close()
        upstream.close()
        await forwarder.stopService()
        line = json.loads(json_line(self.lines.closed_lines[-1]))
        self.assertEqual(line["notes"], {"word": "x"})
        self.assertEqual(forwarder.filter_metrics.families(), [])

    async def test_reload(self) -> None:
        """A reload keeps what is unchanged, starts what is new and stops what nobody needs any more."""
        forwarder = self.started(self.rule("x", "y"))
        EVENTS.clear()
        await self.applied(forwarder, self.rule("y", "z"))
        self.assertEqual(EVENTS, [("configure", "z"), ("start", "z"), ("stop", "x")])

    async def test_old_sessions(self) -> None:
        """A factory that a reload removes is stopped when its last session is closed."""
        forwarder = self.started(self.rule("x"))
        client, upstream = await self.session(forwarder)
        EVENTS.clear()
        await self.applied(forwarder, self.rule("y"))
        self.assertEqual(EVENTS, [("configure", "y"), ("start", "y")])
        client.close()
        upstream.close()
        await self.until(lambda: not forwarder.session_count)
        self.assertEqual(EVENTS[2:], [("stop", "x")])

    async def test_refused_reload(self) -> None:
        """A factory that does not start refuses a reload; what was started for it is stopped."""
        forwarder = self.started(self.rule("x"))
        EVENTS.clear()
        result = await self.reload(forwarder, self.rule("x", "y", "bad"))
        name = "python:tests.service.build.living.PLUGIN"
        failure = f"a: filter {name}: its method start failed: RuntimeError: no server there"
        self.assertEqual(result.failures, (failure,))
        expected = [("configure", "y"), ("configure", "bad"), ("start", "y"), ("start", "bad"), ("stop", "y")]
        self.assertEqual(EVENTS, expected)
        self.flushLoggedErrors(RuntimeError)
        await self.applied(forwarder, self.rule("x"))
        self.assertEqual(EVENTS, expected)

    async def test_dry_run(self) -> None:
        """A dry run starts nothing."""
        forwarder = self.started(self.rule("x"))
        EVENTS.clear()
        await self.reload(forwarder, self.rule("y"), dry_run=True)
        self.assertEqual(EVENTS, [("configure", "y")])

    async def test_refused_start(self) -> None:
        """A factory that does not start refuses the start of the forwarder."""
        forwarder = self.forwarder(self.rule("x", "bad"))
        forwarder.privilegedStartService()
        error = self.assertRaises(StartError, forwarder.startService)
        self.assertIn("its method start failed: RuntimeError: no server there", error.failures[0])
        self.assertEqual(EVENTS[2:], [("start", "x"), ("start", "bad"), ("stop", "x")])
        self.assertFalse(forwarder.running)
        self.flushLoggedErrors(RuntimeError)

    async def test_alike(self) -> None:
        """Clauses that say the same have a factory each, and keep it."""
        forwarder = self.started(self.rule("x", "x"))
        first, second = (one for _, one in forwarder.rules[0].filters)
        self.assertIsNot(first, second)
        await self.applied(forwarder, self.rule("x", "x"))
        self.assertEqual([one for _, one in forwarder.rules[0].filters], [first, second])

    def test_incomparable(self) -> None:
        """Options that cannot be compared are others."""

        class Odd:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError("no")

            __hash__ = None  # type: ignore[assignment]

        options = Odd()
        kept = Kept("a", "f", None, options, (), None)
        self.assertFalse(kept.is_made_of(Odd(), (), None))

    def test_repr(self) -> None:
        """Their state in a line."""
        factories = Factories()
        self.assertEqual(repr(factories), "<Factories 0, 0 of rules that are gone>")
        self.assertEqual(repr(factories.select()), "<Selection of 0 factories>")
