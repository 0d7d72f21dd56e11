"""Tests of `portfwd.rules.tokens`: words, their columns, quotes and comments."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.tokens import Line, Word, WordFault, find_bad_character, quote, spell, spell_value
from tests.rules.strategies import texts


def cut(text: str) -> list[Word]:
    """The words of a line."""
    return Line("f", 1, text).words()


def said(text: str) -> list[str]:
    """What the words of a line say."""
    return [word.text for word in cut(text)]


class WordsTests(SynchronousTestCase):
    """A line becomes words."""

    def test_blanks(self) -> None:
        """Blanks and tabs, any number of them, separate words."""
        self.assertEqual(said("  a\tb   c "), ["a", "b", "c"])
        self.assertEqual(said(""), [])
        self.assertEqual(said(" \t "), [])

    def test_columns(self) -> None:
        """A word knows its column in characters from 1 and its length in the file."""
        self.assertEqual([(w.column, w.length) for w in cut('\té x="a b"  y')], [(2, 1), (4, 7), (13, 1)])

    def test_comment(self) -> None:
        """A comment starts anywhere outside quotes, also in the middle of a word, and nowhere inside."""
        self.assertEqual(said("a b#c d"), ["a", "b"])
        self.assertEqual(said("# a"), [])
        self.assertEqual(said('a "#b" c # "d'), ["a", "#b", "c"])
        self.assertEqual(said('"a"#b'), ["a"])

    def test_escapes(self) -> None:
        """Inside quotes a backslash escapes a quote and itself; before all else it stands for itself."""
        self.assertEqual(said(r'"a\"b" "c\\" "d\:e"'), ['a"b', "c\\", r"d\:e"])
        self.assertEqual(said(r"a\b"), [r"a\b"])

    def test_quoted_part(self) -> None:
        """A quote may follow a colon, an equals sign or a comma, and ends the word."""
        word = cut('key="a b"')[0]
        self.assertEqual((word.text, word.bare, word.quoted), ("key=a b", 4, True))
        self.assertEqual(said('unix:"a b","c",d'), ["unix:a b", ",c", ",d"])
        self.assertEqual(said('["a"]'.replace("[", "x=")), ["x=a", "]"])

    def test_quote_faults(self) -> None:
        """Quotes that open or close in the middle of a word, or never close, are faults with their place."""
        for text, code, start in (
            ('a b"c"', "bad-quote", 3),
            ('a "b"c', "bad-quote", 5),
            ('a "b', "unclosed-quote", 2),
            ('a "b\\"', "unclosed-quote", 2),
        ):
            fault = self.assertRaises(WordFault, cut, text)
            self.assertEqual((fault.code, fault.start), (code, start), text)

    def test_invisible(self) -> None:
        """Invisible characters are faults with their place, but in a comment nobody minds."""
        fault = self.assertRaises(WordFault, cut, "ab c\xa0d")
        self.assertEqual((fault.code, fault.start, fault.length), ("bad-character", 4, 1))
        self.assertEqual(said("a # \x07"), ["a"])
        self.assertIn("U+00A0", str(find_bad_character("a\xa0")))
        self.assertIsNone(find_bad_character("a b"))


class WordTests(SynchronousTestCase):
    """What a word can be taken apart into."""

    def test_option(self) -> None:
        """``KEY=VALUE`` is an option, its value a word with its own column."""
        key, value = cut("  idle=5m")[0].option() or ("", None)
        self.assertEqual((key, value), ("idle", Word("5m", 8, 2, 2)))
        self.assertEqual(cut('ca="a=b"')[0].option(), ("ca", Word("a=b", 4, 5, 0)))

    def test_no_option(self) -> None:
        """Quoted words, addresses and words without a key are no options."""
        for text in ('"a=b"', "unix:/a=b", "=b", "9=b", "a", "->"):
            self.assertIsNone(cut(text)[0].option(), text)

    def test_split(self) -> None:
        """Separators count in the bare part only; the last part keeps the quoted one."""
        parts = cut('a,b:"c,d"')[0].split(",")
        self.assertEqual([(p.text, p.column, p.length) for p in parts], [("a", 1, 1), ("b:c,d", 3, 7)])

    def test_place(self) -> None:
        """A fault is placed inside a bare word; where quotes shift the columns it marks the word."""
        line = Line("f", 3, 'ab:80 unix:"x\\"y"')
        bare, quoted = line.words()
        self.assertEqual(line.place(bare, WordFault("c", "m", start=3)).column, 4)
        self.assertEqual(line.place(bare, WordFault("c", "m", start=3)).length, 2)
        self.assertEqual(line.place(bare, WordFault("c", "m", start=0, length=2)).length, 2)
        self.assertEqual(line.place(quoted, WordFault("c", "m", start=7)).column, 7)
        self.assertEqual(line.place(quoted, WordFault("c", "m", start=7)).length, len('unix:"x\\"y"'))

    def test_indented(self) -> None:
        """A blank or a tab indents."""
        self.assertEqual(
            [Line("f", 1, text).indented for text in (" a", "\ta", "a", "")], [True, True, False, False]
        )


class SpellTests(SynchronousTestCase):
    """Words back to text."""

    @given(texts)
    @settings(max_examples=200)
    def test_word(self, text: str) -> None:
        """A spelt word reads back as itself, as one word that is no option and no arrow."""
        (word,) = cut(spell(text))
        self.assertEqual(word.text, text)
        self.assertIsNone(word.option())
        self.assertTrue(text != "->" or word.quoted)

    @given(st.text('ab "\\#=,:', max_size=12))
    def test_value(self, text: str) -> None:
        """A spelt value reads back behind its key."""
        (word,) = cut("key=" + spell_value(text))
        _, value = word.option() or ("", None)
        assert value is not None
        self.assertEqual(value.text, text)

    def test_quote_only_where_needed(self) -> None:
        """Quotes come only where they must."""
        self.assertEqual(
            [spell("a"), spell("a b"), spell("->"), spell("k=v"), spell("")],
            ["a", '"a b"', '"->"', '"k=v"', '""'],
        )
        self.assertEqual(quote('a"\\'), '"a\\"\\\\"')
