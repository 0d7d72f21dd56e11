# -*- test-case-name: tests.testing.test_splits -*-
"""
Check that a result does not depend on how bytes are split.

A network may split a stream anywhere. `every_split` runs a function with many splits of the same bytes and
compares the results: one split at every position, single bytes, pieces of equal size, and a fixed sample of
random splits. The splits are the same in every run. Large data is split at a sample of positions, most of
them near its start and end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, TypeVar

from portfwd.values import counted

Result = TypeVar("Result")

#: Maximum bytes of data that is split at every position. More positions take long and rarely find more.
ALL_POSITIONS: Final = 256

#: Maximum bytes of data that is also sent in single bytes, which takes long.
SINGLE_BYTES: Final = 16 * 1024

#: Number of splits at several random positions.
SAMPLES: Final = 32

#: Sizes of equal pieces: primes, of which no record is a multiple, and the payload of an Ethernet segment.
SIZES: Final = (2, 3, 5, 7, 31, 251, 1460)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Split `data` in different ways, without empty pieces; the first split has one piece."""
    size = len(data)
    yield [data] if data else []
    for position in _positions(size):
        yield [data[:position], data[position:]]
    for step in SIZES if size > SINGLE_BYTES else (1, *SIZES):
        if step < size:
            yield [data[start : start + step] for start in range(0, size, step)]
    # A fixed seed: the same splits in every run.
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
    """Describe the sizes of `pieces`."""
    sizes = [len(piece) for piece in pieces]
    shown = ", ".join(map(str, sizes[:8])) + (", …" if len(sizes) > 8 else "")
    return f"{counted(len(sizes), 'piece')}, in bytes: {shown}"


def _positions(size: int) -> Sequence[int]:
    """Return the positions at which data of `size` bytes is split once."""
    if size <= ALL_POSITIONS:
        return range(1, size)
    part = ALL_POSITIONS // 4
    step = (size - 2 * part) // (2 * part)
    return [*range(1, part), *range(part, size - part, max(1, step)), *range(size - part, size)]
