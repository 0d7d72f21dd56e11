# -*- test-case-name: tests.admin.test_tight_files -*-
"""
Files and directories that decide who may come in: read only if nobody else could have written them.

As sshd's ``StrictModes`` has it: the file and every directory above it belong to root or to this user,
and nobody else may write there. What is loose is refused with the command that mends it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

#: A file of keys with ten thousand of them; more is another file.
MAX_SIZE: Final = 4 * 1024 * 1024

_OTHERS_WRITE: Final = 0o022
_OTHERS: Final = 0o077


class LooseFile(Exception):
    """A file, or a directory above it, is not as tight as it must be; the message names the way out."""


def read_tight(path: str, *, secret: bool = False) -> bytes:
    """
    The bytes of a file.

    :param secret: nobody else may read it either.
    :raises LooseFile: others could have written it, or could read a secret.
    :raises OSError: it cannot be read.
    """
    # A FIFO would be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise LooseFile(f"{path} is no ordinary file")
        _check(path, status, _OTHERS if secret else _OTHERS_WRITE)
        check_directories(path)
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise LooseFile(f"{path} has more than {MAX_SIZE} bytes")
    return data


def check_directories(path: str) -> None:
    """
    See that nobody else can put another file in the place of `path`.

    A directory in which everybody may make files, but nobody may remove others' (``/tmp``), is tight.

    :raises LooseFile: somebody can.
    :raises OSError: a directory cannot be looked at.
    """
    for directory in _directories(path):
        status = os.stat(directory)
        sticky = status.st_mode & stat.S_ISVTX
        _check(directory, status, 0 if sticky else _OTHERS_WRITE)


def check_private(directory: str) -> None:
    """
    See that nobody else can come near what is in `directory`.

    :raises LooseFile: its bits are not 0700, or somebody else could change what it is.
    :raises OSError: it is not there.
    """
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise LooseFile(f"{directory} is no directory")
    _check(directory, status, _OTHERS)
    check_directories(os.path.realpath(directory))


def _directories(path: str) -> Iterator[str]:
    """Those above `path`, from the nearest to the root; links are followed."""
    directory = os.path.dirname(os.path.realpath(path))
    while True:
        yield directory
        above = os.path.dirname(directory)
        if above == directory:
            return
        directory = above


def _check(path: str, status: os.stat_result, forbidden: int) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise LooseFile(f"{path} belongs to uid {status.st_uid}: chown it to root, or to this user")
    if status.st_mode & forbidden:
        bits = "go-rwx" if forbidden == _OTHERS else "go-w"
        raise LooseFile(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}): chmod {bits} {path}"
        )
