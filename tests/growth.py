"""
Whether reading a text takes time in proportion to its length.

CPU time of this thread is compared with that of a plain loop over as many characters, measured just
before on the same machine, so neither the machine's speed nor its load decides. Of what costs many such
loops, each character must not cost more in a long text than in a short one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

from portfwd.admin.requests import MAX_LINE
from portfwd.errors import PortfwdError

#: Lengths that are tried, the smallest first: a reader without any bound is found before it takes hours.
SIZES = (1 << 10, 1 << 13, 1 << 16)
#: The same for whole files, of which much more is said for each character.
FILE_SIZES = (1 << 11, 1 << 14)
#: The same for requests, which are no longer.
REQUEST_SIZES = (MAX_LINE,)
#: How much shorter the text is that a text is compared with.
STEP = 16
#: Loops over the text that one reading may always cost; most need fewer than 30.
MOST_LOOPS = 100.0
#: How much more each character may cost in a text that is `STEP` times as long. In proportion it is 1,
#: as there is less of what every text costs; with the square of the length it is `STEP`.
MOST_GROWTH = 5.0
#: Characters more that are looped over, so that the clock has something to measure.
CONSTANT = 2_000

#: What long texts are made of.
UNITS = (
    "1", "0", "9.", "1s", "1h1", "a", "A.", "a-", "a,", "1,", ",", ".", ":", "::", "1:", "-", "1-", "/", "[",
    "]", "[]", "(", ")", "(a*)", "*", "?", "*a", "\\", "\\x", '"', '\\"', "'", "=", "a=", "a=b ", " ", "\t",
    "#", "%", "@", "\xe9", "\u0301", "\U0001f600", "->", "a ->", "unix:", "tls:", "10.0.0.0/8,", "::1,",
    "ab=1,", "$", "{", "|", "+",
    "x y ", "a\nb ", ":1 -> a:1\n", "[a]\n", "a.b.", "[[", "{a=", "'''", '"""',
)  # fmt: skip
#: What stands before and behind.
FRAMES = (("", ""), ("", "!"))


def texts(size: int) -> Iterator[str]:
    """Texts of `size` characters, of which most are wrong at their end."""
    for unit in UNITS:
        for before, behind in FRAMES:
            yield (before + unit * (size // len(unit)))[: size - len(behind)] + behind


def too_slow(read: Callable[[str], object], *prefixes: str, sizes: tuple[int, ...] = SIZES) -> str:
    """
    Read long texts of all kinds.

    :param read: what it raises as `ValueError` or an error of portfwd is ignored.
    :param prefixes: what texts begin with; without any, nothing.
    :returns: the first that took too long; empty for none.
    """
    for size in sizes:
        for prefix in prefixes or ("",):
            for short, text in zip(texts(size // STEP), texts(size), strict=True):
                # Whatever else the machine did meanwhile is not the reader's: it has several chances.
                if all(_is_slow(read, prefix + short, prefix + text) for _ in range(3)):
                    return f"{size} characters {(prefix + text)[:20]!r}...{text[-5:]!r}"
    return ""


def _is_slow(read: Callable[[str], object], short: str, text: str) -> bool:
    """Whether `text` takes many loops over it, and each of its characters more than those of `short`."""
    loops = _loops(read, text)
    return loops > MOST_LOOPS and loops > MOST_GROWTH * _loops(read, short)


def _loops(read: Callable[[str], object], text: str) -> float:
    """How many loops over the text reading it takes."""
    gc.collect(0)
    began = time.thread_time()
    for _ in range(len(text) + CONSTANT):
        pass
    loop = (time.thread_time() - began) * len(text) / (len(text) + CONSTANT)
    began = time.thread_time()
    try:
        read(text)
    except (ValueError, PortfwdError):
        pass
    return (time.thread_time() - began) / max(loop, 1e-9)
