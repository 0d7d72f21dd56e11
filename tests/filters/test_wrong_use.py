"""Tests for `portfwd.filters.wrong_use`."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_UPSTREAM, Connection, Direction, Factory, Filter, FilterFactory, Verdict
from portfwd.filters.wrong_use import built_class, wrong_attributes, wrong_methods
from portfwd.testing import Pipe

GOOD = Factory(lambda connection: None)


class AttributeTests(SynchronousTestCase):
    """What factories say of themselves."""

    def test_good(self) -> None:
        """What is usual is right; so is a factory that lacks what it need not have."""
        for factory in (GOOD, Filter, object(), evolve(GOOD, hold_timeout=1, directions={TO_UPSTREAM})):
            self.assertEqual(wrong_attributes(factory), [])

    def test_wrong(self) -> None:
        """Each mistake is named, with what it should be."""
        for options, text in (
            ({"max_hold": "16KiB"}, "max_hold must be a whole number of bytes, not '16KiB'"),
            ({"max_hold": -1}, "not -1"),
            ({"max_hold": True}, "not True"),
            ({"directions": TO_UPSTREAM}, "directions must be a frozenset of directions"),
            ({"directions": frozenset({"up"})}, "directions must be"),
            ({"hold_timeout": "3s"}, "hold_timeout must be a number of seconds above 0, or None, not '3s'"),
            ({"hold_timeout": 0}, "not 0"),
            ({"on_error": "ignore"}, "on_error must be 'close' or 'bypass', not 'ignore'"),
            ({"on_timeout": "abort"}, "on_timeout must be 'close' or 'pass'"),
            ({"on_overflow": None}, "on_overflow must be 'close' or 'pass', not None"),
            ({"routes": "yes"}, "routes must be True or False, not 'yes'"),
        ):
            (found,) = wrong_attributes(evolve(GOOD, **options))
            self.assertIn(text, found)


class MethodTests(SynchronousTestCase):
    """Methods of a filter's class."""

    def test_good(self) -> None:
        """Methods of one's own are nobody's business, and neither is a default for an argument more."""

        class Good(Filter):
            def received(self, direction: Direction, data: bytes, more: int = 0) -> Verdict:
                return None

            def failed(self, *arguments: object) -> Verdict:
                return None

            def close(self) -> None:
                """Not `closed`."""

            def receive(self) -> None:
                """Not `received`."""

            def parse(self) -> None:
                """Something else."""

        self.assertEqual(wrong_methods(Good), [])
        self.assertEqual(wrong_methods(Filter), [])

    def test_misspelt(self) -> None:
        """A method that nothing calls, because its name is almost one of the contract's."""
        for name, meant in (("recieved", "received"), ("conected", "connected"), ("opend", "opened")):
            cls: Any = type("Slip", (Filter,), {name: lambda self, *arguments: None})
            self.assertEqual(wrong_methods(cls), [f"{name} is no method of a filter; did you mean {meant}?"])

    def test_signature(self) -> None:
        """A method that cannot be called with what the contract gives it."""

        class Short(Filter):
            def received(self, data: bytes) -> Verdict:  # type: ignore[override]
                return None

        self.assertEqual(wrong_methods(Short), ["received must take self, direction, data"])

    def test_coroutine(self) -> None:
        """A coroutine function returns no verdict."""

        class Async(Filter):
            async def received(self, direction: Direction, data: bytes) -> Verdict:  # type: ignore[override]
                return None

        self.assertIn("received is a coroutine function: return Await", wrong_methods(Async)[0])

        class Starting(FilterFactory):
            async def start(self, services: object) -> None:  # type: ignore[override]
                pass

        self.assertIn("start is a coroutine function: start a coroutine", wrong_attributes(Starting())[0])

    def test_generator(self) -> None:
        """A generator function returns no verdict either."""

        class Yielding(Filter):
            def received(self, direction: Direction, data: bytes) -> Any:
                yield data

        self.assertIn("received is a generator function: return a list", wrong_methods(Yielding)[0])

    def test_attribute(self) -> None:
        """An attribute that nothing reads, because its name is almost one of the contract's."""
        for name, meant in (
            ("hold_timout", "hold_timeout"),
            ("on_eror", "on_error"),
            ("max_hodl", "max_hold"),
        ):
            cls: Any = type("Slip", (Filter,), {name: 5})
            self.assertEqual(
                wrong_methods(cls), [f"{name} is no attribute of a filter; did you mean {meant}?"]
            )
        for name in ("direction", "route", "max_holds", "limit"):
            self.assertEqual(wrong_methods(type("Own", (Filter,), {name: 5})), [])


class FactoryTests(SynchronousTestCase):
    """Factories, and what they build."""

    def test_methods(self) -> None:
        """Methods of a factory's class are looked at as those of a filter are."""

        class Misspelt(FilterFactory):
            def stopp(self, services: object) -> None:
                pass

        class Wrong(FilterFactory):
            def start(self) -> None:  # type: ignore[override]
                pass

            def build(self) -> None:  # type: ignore[override]
                pass

        self.assertEqual(
            wrong_attributes(Misspelt()), ["stopp is no method of a factory; did you mean stop?"]
        )
        (start, *others) = wrong_attributes(Wrong())
        self.assertEqual(start, "start must be callable as start(services)")
        self.assertIn("build must take self, connection", others)
        self.assertEqual(wrong_attributes(FilterFactory()), [])
        self.assertIn("stop must be", wrong_attributes(evolve(GOOD, stop=7))[0])

    def test_built(self) -> None:
        """What is built is known by the class that is called, or by an annotation."""

        def annotated(connection: Connection) -> Filter | None:
            return None

        class Building(FilterFactory):
            def build(self, connection: Connection) -> Filter:
                return Filter()

        for factory in (Factory(Filter), Factory(annotated), Building()):
            self.assertIs(built_class(factory), Filter)
        for factory in (GOOD, FilterFactory(), object()):
            self.assertIsNone(built_class(factory))

    def test_at_run_time(self) -> None:
        """What only a connection shows is an error of the first one, with the name of the method."""

        class Misspelt(Filter):
            def recieved(self, direction: Direction, data: bytes) -> Verdict:
                return None

        pipe = Pipe(Factory(lambda connection: Misspelt()), strict=False)
        self.assertIn(
            "recieved is no method of a filter; did you mean received?", str(pipe.troubles[0].error)
        )
        self.assertEqual(pipe.troubles[0].method, "build")
        pipe = Pipe(Factory(lambda connection: Misspelt(), on_error="bypass"), strict=False)
        pipe.send(TO_UPSTREAM, b"x")
        self.assertEqual(pipe.to_upstream, b"x")
