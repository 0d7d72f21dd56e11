# -*- test-case-name: tests.testing.test_splits -*-
"""
The same bytes, however they are cut.

A network cuts where it likes. `every_split` runs something on the same bytes cut in many ways
and insists on one result: every place for one cut, single bytes, pieces of equal size, and a
fixed sample of many cuts. The same data is cut the same way in every run; large data is cut
at a sample of its places, most of them near its ends, where heads and tails are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, TypeVar

from portfwd.values import counted

Result = TypeVar("Result")

#: Places for one cut that are all tried: more take long and rarely tell more.
ALL_PLACES: Final = 256

#: Bytes that are also sent one by one: beyond, that takes longer than what it shows is worth.
SINGLE_BYTES: Final = 16 * 1024

#: How often the data is cut in many random places.
SAMPLES: Final = 32

#: Sizes of equal pieces: primes, so that no record is a multiple of them, and a segment of Ethernet's.
SIZES: Final = (2, 3, 5, 7, 31, 251, 1460)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """`data` in pieces, cut in different ways; none of the pieces is empty. The first is `data` in one."""
    size = len(data)
    yield [data] if data else []
    for place in _places(size):
        yield [data[:place], data[place:]]
    for step in SIZES if size > SINGLE_BYTES else (1, *SIZES):
        if step < size:
            yield [data[start : start + step] for start in range(0, size, step)]
    # The same cuts in every run; nothing secret.
    random = Random(size)  # noqa: S311
    for _ in range(SAMPLES if size > 2 else 0):
        cuts = sorted(random.sample(range(1, size), random.randint(2, min(size - 1, 16))))
        yield [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, size], strict=True)]


def every_split(run: Callable[[Sequence[bytes]], Result], data: bytes) -> Result:
    """
    Check that the result of `run` does not depend on how `data` is cut into pieces.

    >>> every_split(lambda pieces: b"".join(pieces).upper(), b"abc")
    b'ABC'

    :param run: called with the pieces, several times; its results are compared. It must not keep state.
    :param data: the bytes that are cut.
    :returns: the result for `data` in one piece.
    :raises AssertionError: two results differ; the message says how the data was cut.
    """
    whole: list[Result] = []
    for pieces in splits(data):
        result = run(pieces)
        if not whole:
            whole.append(result)
        elif result != whole[0]:
            raise AssertionError(f"cut into {describe(pieces)}: {result!r}; in one piece: {whole[0]!r}")
    return whole[0]


def describe(pieces: Sequence[bytes]) -> str:
    """How `pieces` are cut, in a few words."""
    sizes = [len(piece) for piece in pieces]
    shown = ", ".join(map(str, sizes[:8])) + (", …" if len(sizes) > 8 else "")
    return f"{counted(len(sizes), 'piece')}, in bytes: {shown}"


def _places(size: int) -> Sequence[int]:
    """Where data of `size` bytes is cut once."""
    if size <= ALL_PLACES:
        return range(1, size)
    part = ALL_PLACES // 4
    step = (size - 2 * part) // (2 * part)
    return [*range(1, part), *range(part, size - part, max(1, step)), *range(size - part, size)]
