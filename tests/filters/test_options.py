"""Tests of `portfwd.filters.options`: declaring options, and reading a clause by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from attrs import Factory, define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.clause_reading import example, place_of, read_options
from portfwd.filters.options import (
    NEEDED,
    FileText,
    OptionError,
    OptionFiles,
    OptionKind,
    OptionProblem,
    choice,
    declared,
    duration,
    file_text,
    number,
    option,
    size,
    words,
)
from tests.filters.plugins import Annotated, Bare, Declaring, RouterOptions


def no_file(path: str) -> str:
    """There is none."""
    raise FileNotFoundError(2, "No such file or directory", path)


FILES = OptionFiles(no_file, str)


def even(said: str) -> int:
    """An author's own kind."""
    if int(said) % 2:
        raise ValueError("expected an even number")
    return int(said)


@frozen
class Sample:
    """Options of every shape."""

    kind: str = option(choice("latency", "reset"), positional=True, help="What goes wrong.")
    slow_close: float = option(duration, default=0.5, help="Delay of each end.")
    most: int = option(size, default=65536)
    share: int = option(even, default=2)
    names: FileText | None = option(file_text, default=None)
    marks: tuple[str, ...] = option(words, repeated=True)
    places: list[int] = option(number, default=Factory(list))


class Described:
    """A class with arguments that its docstrings tell of."""

    def __init__(self, reply: bytes = b"", most: int = 3, least: int = 1, other: str = "") -> None:
        """
        Refuse.

        :param reply: what a client is told,
            before it is closed.
        :param most, least: how many.
        """


class Listing:
    """A class with arguments that are lists, and words."""

    def __init__(
        self,
        hosts: frozenset[str] = frozenset(),
        ports: list[int] | None = None,
        parts: tuple[float, ...] = (),
        kind: Literal["soft", "hard"] = "soft",
        pair: tuple[str, int] = ("", 0),
    ) -> None:
        self.said = (hosts, ports, parts, kind, pair)


class DeclarationTests(SynchronousTestCase):
    """What is known of options."""

    def test_docstrings(self) -> None:
        """An argument without a declaration has the text of its ``:param`` field."""
        texts = {one.key: one.help for one in declared(Described)}
        told = "What a client is told, before it is closed."
        self.assertEqual(texts, {"reply": told, "most": "How many.", "least": "How many.", "other": ""})

    def test_keys(self) -> None:
        """The keyword is the attribute's name with ``-`` for ``_``; the order is the class's."""
        self.assertEqual(
            [one.key for one in declared(Sample)],
            ["kind", "slow-close", "most", "share", "names", "marks", "places"],
        )

    def test_what_is_said(self) -> None:
        """Unit, default, and whether it is needed are there for whoever explains the filter."""
        found = {one.key: one for one in declared(Sample)}
        self.assertEqual([one.key for one in found.values() if one.needed], ["kind"])
        self.assertEqual(
            {key: one.default_text for key, one in found.items()},
            {
                "kind": "",
                "slow-close": "500ms",
                "most": "64KiB",
                "share": "2",
                "names": "",
                "marks": "",
                "places": "",
            },
        )
        self.assertEqual(found["slow-close"].help, "Delay of each end.")
        self.assertEqual(found["share"].kind.unit, "even")
        self.assertEqual(found["kind"].kind.unit, "latency | reset")

    def test_default_texts(self) -> None:
        """A default of a repeated option, and of one that is a path, is written too."""

        @frozen
        class Options:
            all: tuple[str, ...] = option(words, default=(("a", "b"), ("c",)), repeated=True)
            file: str = option(file_text, default="/etc/x")

        self.assertEqual([one.default_text for one in declared(Options)], ["a,b c", "/etc/x"])

    def test_lists_by_annotation(self) -> None:
        """A list has commas in a file, and words of a `Literal` are the only ones."""
        pairs = [("hosts", "b,a"), ("ports", "1,2"), ("parts", "0.5"), ("kind", "hard")]
        made = read_options(Listing, (), pairs, FILES)
        assert isinstance(made, Listing)
        self.assertEqual(made.said, ({"a", "b"}, [1, 2], (0.5,), "hard", ("", 0)))
        units = [one.kind.unit for one in declared(Listing)]
        self.assertEqual(units, ["text,…", "number,…", "number,…", "soft | hard", "text"])
        texts = [one.default_text for one in declared(Listing)[:4]]
        self.assertEqual(texts, ["", "", "", "soft"])
        for pair in (("ports", "1,x"), ("ports", "1,,2"), ("kind", "sofd")):
            problems = read_options(Listing, (), [pair], FILES)
            assert isinstance(problems, list)
            self.assertEqual(len(problems), 1, pair)
        self.assertEqual(declared(Listing)[0].kind.write({"b", "a"}), "a,b")  # type: ignore[union-attr]

    def test_annotations(self) -> None:
        """A class that declares nothing is read by its annotations; without, by text."""
        found = {one.key: (one.kind.unit, one.needed) for one in declared(Annotated, without=("clauses",))}
        self.assertEqual(
            found,
            {
                "greeting": ("text", True),
                "limit": ("number", False),
                "share": ("number", False),
                "loud": ("on | off", False),
                "mark": ("bytes", False),
                "depth": ("number", False),
            },
        )
        self.assertEqual(declared(Bare), ())

    def test_attrs_without_declaration(self) -> None:
        """Undeclared attributes of an attrs class are options by annotation, but for ``init=False``."""

        @define
        class Options:
            _hidden: bool = False
            either: int | str = 0
            gone: int = field(default=1, init=False)

        found = declared(Options)
        self.assertEqual(
            [(one.key, one.kind.unit) for one in found], [("hidden", "on | off"), ("either", "text")]
        )
        self.assertEqual(read_options(Options, (), (("hidden", "on"),), FILES), Options(hidden=True))
        self.assertEqual([one.key for one in declared(Declaring)], ["max-hold", "depth"])

    def test_annotations_that_lead_nowhere(self) -> None:
        """An annotation that names what is not imported is read as far as its word goes."""

        class Late:
            def __init__(self, count: int, other: Missing = None) -> None:  # type: ignore[name-defined] # noqa: F821
                """Nothing."""

        self.assertEqual([one.kind.unit for one in declared(Late)], ["number", "text"])

    def test_made_in_c(self) -> None:
        """A class whose arguments nobody knows has no options."""
        self.assertEqual(declared(type("Odd", (dict,), {})), ())

    def test_example(self) -> None:
        """The example clause has what is needed, words first, and what was declared with an example."""
        self.assertEqual(example("x", declared(Sample)), "filter x latency")
        self.assertEqual(example("r", declared(RouterOptions)), "filter r last trust=10.0.0.0/8")

        @frozen
        class Options:
            other: int = option(even)
            word: int = option(OptionKind("thing", even), positional=True)

        self.assertEqual(example("x", declared(Options)), "filter x VALUE other=VALUE")


class ReadTests(SynchronousTestCase):
    """Reading a clause."""

    def read(self, plain: Sequence[str] = (), *pairs: tuple[str, str], cls: Any = Sample) -> Any:
        """What comes of a clause."""
        return read_options(cls, plain, pairs, FILES)

    def test_good(self) -> None:
        """Words and options become the attributes' values, the others keep their defaults."""
        self.assertEqual(
            self.read(["reset"], ("slow-close", "2s"), ("marks", "a,b"), ("marks", "c")),
            Sample(kind="reset", slow_close=2.0, marks=(("a", "b"), ("c",))),
        )

    def test_word_by_key(self) -> None:
        """What may be a plain word may be written with its key as well."""
        self.assertEqual(self.read((), ("kind", "latency")), Sample(kind="latency"))

    def test_repeated_word(self) -> None:
        """A repeated positional option takes every word that is left."""

        @frozen
        class Options:
            first: int = option(number, positional=True)
            rest: tuple[int, ...] = option(number, positional=True, repeated=True)

        self.assertEqual(self.read(["1", "2", "3"], cls=Options), Options(first=1, rest=(2, 3)))
        self.assertEqual(self.read(["1"], cls=Options), Options(first=1))

    def test_missing(self) -> None:
        """What is needed and not there is named, with how it is written and what it is for."""
        self.assertEqual(self.read(), [OptionProblem("'kind' is missing", "write latency: What goes wrong.")])

        @frozen
        class Options:
            size: int = option(size)

        self.assertEqual(self.read(cls=Options), [OptionProblem("'size' is missing", "write size=64KiB")])

    def test_unknown(self) -> None:
        """An unknown option is named by its number, with the nearest one that is known, and all of them."""
        (problem,) = self.read(["reset"], ("most", "1"), ("slow_clos", "2s"))
        self.assertEqual((problem.option, problem.word, problem.in_value), (1, None, False))
        self.assertEqual(problem.message, "unknown option 'slow_clos'")
        self.assertEqual(
            problem.hint,
            "did you mean 'slow-close'? its options are kind, slow-close, most, share, names, marks, places",
        )
        (problem,) = self.read((), ("zzz", ""), cls=Bare)
        self.assertEqual(problem.hint, "this filter has no options")

        @frozen
        class Options:
            one: int = option(number, default=1)

        (problem,) = self.read((), ("\N{ZERO WIDTH JOINER}" + "z" * 80, ""), cls=Options)
        self.assertEqual(problem.hint, "its only option is one")
        self.assertEqual(problem.message, f"unknown option '\\u200d{'z' * 56}...'")

    def test_too_many_words(self) -> None:
        """Each word too many is named by its number; one that is a key is told how to be one."""
        problems = self.read(["reset", "most", "x"])
        self.assertEqual([problem.word for problem in problems], [1, 2])
        self.assertEqual(problems[0].hint, "write most=VALUE")
        self.assertIn("its options are", problems[1].hint)

    def test_bad_values(self) -> None:
        """Every bad value is told, with its number, and that it is the value."""
        problems = self.read(["x"], ("most", "lots"), ("share", "3"), ("names", "u.txt"))
        self.assertEqual([(one.word, one.option, one.in_value) for one in problems],
                         [(0, None, True), (None, 0, True), (None, 1, True), (None, 2, True)])  # fmt: skip
        self.assertEqual(
            [one.message for one in problems],
            [
                "bad value for 'kind': expected latency or reset",
                "bad value for 'most': expected a size such as 64KiB, 1MiB or 4096",
                "bad value for 'share': expected an even number",
                "bad value for 'names': cannot read 'u.txt': No such file or directory;"
                " put the file there, or name the path at which it is",
            ],
        )
        self.assertEqual({one.hint for one in problems}, {""})

    def test_suggestion(self) -> None:
        """A word that is none of a few is told the nearest of them."""
        (problem,) = self.read(["resett"])
        self.assertEqual(problem.hint, "did you mean 'reset'?")

    def test_twice(self) -> None:
        """What is not repeated is said once, as a word or with its key."""
        problems = self.read(["reset"], ("kind", "latency"), ("most", "1"), ("most", "2"))
        self.assertEqual(
            [(one.message, one.option) for one in problems],
            [("'kind' is given twice", 0), ("'most' is given twice", 2)],
        )

    def test_refused_as_a_whole(self) -> None:
        """What the class itself refuses is told of the clause."""

        @frozen
        class Options:
            low: int = option(number, default=0)

            def __attrs_post_init__(self) -> None:
                if self.low > 3:
                    raise ValueError("too low" if self.low == 4 else "")

        self.assertEqual(self.read((), ("low", "4"), cls=Options), [OptionProblem("too low")])
        self.assertEqual(self.read((), ("low", "5"), cls=Options), [OptionProblem("ValueError")])

    def test_refused_in_one_place(self) -> None:
        """What the class says of one of its options is told of that one."""

        @frozen
        class Options:
            low: int = option(number, default=9)

            def __attrs_post_init__(self) -> None:
                if self.low > 3:
                    raise OptionError("low", "too low")

        self.assertEqual(
            self.read((), ("low", "4"), cls=Options), [OptionProblem("too low", option=0, in_value=True)]
        )
        self.assertEqual(self.read((), cls=Options), [OptionProblem("too low")])

    def test_place_of(self) -> None:
        """What a plug-in says of an attribute is about its word or option, or about the clause."""
        options = declared(Sample)
        for attribute, word, number_of_option in (
            ("kind", 0, None),
            ("slow_close", None, 1),
            ("most", None, None),
            ("nonsense", None, None),
        ):
            problem = place_of(
                options, ["reset"], [("share", "2"), ("slow-close", "1s")], OptionError(attribute, "no")
            )
            self.assertEqual((problem.message, problem.word, problem.option), ("no", word, number_of_option))

    @given(
        st.lists(st.text(max_size=5), max_size=3),
        st.lists(
            st.tuples(
                st.sampled_from(["kind", "slow-close", "most", "marks", "zz"]),
                st.sampled_from(["reset", "1s", "2", "", "a,b"]),
            ),
            max_size=5,
        ),
    )
    @settings(max_examples=60, deadline=None)
    def test_all_or_problems(self, plain: list[str], pairs: list[tuple[str, str]]) -> None:
        """Any clause is an instance or a list of problems, each with a place that the clause has."""
        found = read_options(Sample, plain, pairs, FILES)
        if isinstance(found, Sample):
            self.assertLessEqual(len(plain), 1)
            return
        self.assertNotEqual(found, [])
        for problem in found:
            self.assertTrue(problem.word is None or problem.word < len(plain))
            self.assertTrue(problem.option is None or problem.option < len(pairs))

    def test_needed(self) -> None:
        """An option without a default says so by one name."""
        self.assertIs(declared(Sample)[0].default, NEEDED)
