# -*- test-case-name: tests.rules.test_tokens -*-
"""
Splits a line of a rules file into words with their columns.

Words are separated by blanks and tabs. ``#`` starts a comment anywhere outside quotes. A quoted part may
start a word or follow ``:``, ``=`` or ``,`` in it, and it ends the word.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from attrs import frozen

from portfwd.errors import Location

#: Most characters of a line, enough for a hundred targets with all their options.
MAX_LINE: Final = 64 * 1024

_BARE_UNTIL_QUOTE = re.compile(r'[^ \t"#]*')
_BLANKS = re.compile(r"[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r'\\(["\\])')
#: Control characters, and characters that look like a blank.
_BAD = re.compile("[\x00-\x08\x0a-\x1f\x7f-\xa0\u200b\u2028\u2029\ufeff]")
#: Quotes of text processors. Inside plain quotes they are ordinary characters.
_QUOTES: Final = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_TYPOGRAPHIC = re.compile(f"[{_QUOTES}]")
#: Matches more than the keys of options, so a key with other letters is reported as an unknown option.
_KEY = re.compile(r"([^\W\d][\w.-]*)=")
#: Characters that a word without quotes must not contain.
_NEEDS_QUOTES = re.compile(rf'[ \t"#{_QUOTES}]')
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)


class WordFault(ValueError):
    """
    An error in a word. Readers of values raise it, readers of lines catch it.

    It never leaves this package; the reader of the line converts it to a `Problem` with a place.

    :ivar start: its offset in the word, in characters.
    :ivar length: its length in characters; 0 for the rest of the word.
    """

    def __init__(self, code: str, message: str, hint: str = "", start: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.start = start
        self.length = length

    def moved(self, start: int) -> WordFault:
        """The same fault in a word that begins `start` characters earlier."""
        return WordFault(self.code, self.message, self.hint, self.start + start, self.length)


class Word(NamedTuple):
    """
    A word of a line. It is a tuple, because a file of 10 000 rules has 70 000 words.

    :ivar text: its text without quotes and escapes.
    :ivar column: its column, from 1, in characters.
    :ivar length: its length in the file.
    :ivar bare: number of characters of `text` before its quoted part.
    """

    text: str
    column: int
    length: int
    bare: int

    @property
    def quoted(self) -> bool:
        """Whether a part of it is quoted."""
        return self.bare < self.length

    def option(self) -> tuple[str, Word] | None:
        """Key and value, if this is ``KEY=VALUE``."""
        text, column, length, bare = self
        if "=" not in text:
            return None
        match = _KEY.match(text, 0, bare)
        if match is None:
            return None
        start = match.end()
        return match[1], Word(text[start:], column + start, length - start, bare - start)

    def rest(self, start: int) -> Word:
        """The word without its first `start` characters, which must not be quoted."""
        return Word(self.text[start:], self.column + start, self.length - start, self.bare - start)

    def split(self, separator: str) -> list[Word]:
        """Split the unquoted part at a separator. The last part keeps the quoted part."""
        if separator not in self.text:
            return [self]
        *before, last = self.text[: self.bare].split(separator)
        parts = []
        start = 0
        for part in before:
            length = len(part)
            parts.append(Word(part, self.column + start, length, length))
            start += length + len(separator)
        parts.append(Word(last + self.text[self.bare :], self.column + start, self.length - start, len(last)))
        return parts


@frozen
class Line:
    """
    One line of a file.

    :ivar number: from 1.
    :ivar text: without its end.
    """

    file: str
    number: int
    text: str

    @property
    def indented(self) -> bool:
        """Whether the line starts with a blank."""
        return self.text[:1] in {" ", "\t"}

    def at(self, word: Word) -> Location:
        """The place of a word."""
        return Location(self.file, self.number, word.column, word.length or 1, self.text)

    def span(self, column: int, length: int) -> Location:
        """The place of `length` characters from `column`."""
        return Location(self.file, self.number, column, max(length, 1), self.text)

    def place(self, word: Word, fault: WordFault) -> Location:
        """The place of a fault in a word; the whole word if quotes shift the columns."""
        if fault.start > word.bare:
            return self.at(word)
        length = fault.length or word.length - fault.start
        return self.span(word.column + fault.start, length)

    def words(self) -> list[Word]:
        """
        Split the line.

        :raises Fault: a quote is not closed or not allowed, or there is a control character. Its start counts
            from the first character of the line.
        """
        text = self.text
        if len(text) > MAX_LINE:
            raise WordFault(
                "line-too-long",
                f"a line has at most {MAX_LINE} characters",
                "targets and routes may stand on lines of their own",
                MAX_LINE,
                1,
            )
        if '"' in text:
            words = _with_quotes(text)
        else:
            words = []
            column = 1
            for part in text.partition("#")[0].replace("\t", " ").split(" "):
                length = len(part)
                if length:
                    words.append(Word(part, column, length, length))
                column += length + 1
        if _BAD.search(text) is not None:
            for word in words:
                raw = text[word.column - 1 : word.column - 1 + word.length]
                bad = _BAD.search(raw)
                if bad is not None:
                    raise bad_character(bad[0]).moved(word.column - 1 + bad.start())
        if not text.isascii():
            for word in words:
                typographic = _TYPOGRAPHIC.search(word.text, 0, word.bare)
                if typographic is not None:
                    raise bad_character(typographic[0]).moved(word.column - 1 + typographic.start())
        return words


def bad_character(character: str) -> WordFault:
    """The fault for an invisible character, or one that looks like another."""
    if character == "\r":
        return WordFault(
            "bad-character",
            "a CR stands in the middle of this line",
            "if the lines of this file end in CR alone, save it with LF",
            length=1,
        )
    if character in _QUOTES:
        return WordFault(
            "bad-character", f"'{character}' is a typographic quote", 'write " for a quote', length=1
        )
    return WordFault(
        "bad-character",
        f"the character U+{ord(character):04X} may not stand here",
        "it is invisible; delete it, and write an ordinary blank if one is meant",
        length=1,
    )


def find_bad_character(text: str) -> WordFault | None:
    """The fault for the first invisible character of `text`, if there is one."""
    bad = _BAD.search(text)
    return None if bad is None else bad_character(bad[0]).moved(bad.start())


def _with_quotes(text: str) -> list[Word]:
    words: list[Word] = []
    position = 0
    while True:
        position = _BLANKS.match(text, position).end()  # type: ignore[union-attr]
        if position == len(text) or text[position] == "#":
            return words
        bare: str = _BARE_UNTIL_QUOTE.match(text, position)[0]  # type: ignore[index]
        quote = position + len(bare)
        if text[quote : quote + 1] != '"':
            words.append(Word(bare, position + 1, len(bare), len(bare)))
            position = quote
            continue
        if bare and bare[-1] not in ":=,":
            raise WordFault(
                "bad-quote",
                "a quote in the middle of a word",
                'put the whole value in quotes, and write \\" for a quote inside',
                quote,
                1,
            )
        match = _QUOTED.match(text, quote)
        if match is None:
            raise WordFault("unclosed-quote", "this quote is never closed", "values end on their line", quote)
        end = match.end()
        if text[end : end + 1] not in {"", " ", "\t", "#", ",", "]"}:
            raise WordFault("bad-quote", "text directly after a closing quote", "put a blank between", end, 1)
        value = _ESCAPED.sub(r"\1", match[1])
        words.append(Word(bare + value, position + 1, end - position, len(bare)))
        position = end


def quote(text: str) -> str:
    """`text` in double quotes, as `Line.words` parses it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spell(text: str) -> str:
    """A word for a rules file, quoted if necessary."""
    if not text or text == "->" or _NEEDS_QUOTES.search(text) or _KEY.match(text):
        return quote(text)
    return text


def spell_value(text: str) -> str:
    """The value of an option for a rules file, quoted if necessary."""
    return quote(text) if not text or _NEEDS_QUOTES.search(text) else text
