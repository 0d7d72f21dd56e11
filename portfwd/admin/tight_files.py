# -*- test-case-name: tests.admin.test_tight_files -*-
"""
Reads files that control access, only if no other user can write them.

The rules are those of sshd's ``StrictModes``: the file and all directories above it belong to root or to the
user of the process, and no other user may write to them. A refusal names the command that corrects the
permissions.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

#: Maximum bytes of a file: enough for 10 000 keys.
MAX_SIZE: Final = 4 * 1024 * 1024

_OTHERS_WRITE: Final = 0o022
_OTHERS: Final = 0o077


class LooseFile(Exception):
    """A file, or a directory above it, cannot be trusted or used; the message names the remedy."""


def read_tight(path: str, *, secret: bool = False) -> bytes:
    """
    The bytes of a file.

    :param secret: whether other users must not read it either.
    :raises LooseFile: other users can write it, or can read a secret.
    :raises OSError: it cannot be read.
    """
    # Without O_NONBLOCK opening a FIFO waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise LooseFile(f"{path} is not a regular file; name one")
        _check(path, status, _OTHERS if secret else _OTHERS_WRITE)
        check_directories(path)
        data = file.read(MAX_SIZE + 1)
        if data is None:  # as of /proc/kmsg, which is a regular file by its mode
            raise BlockingIOError(errno.EAGAIN, "it has no data now", path)
    if len(data) > MAX_SIZE:
        raise LooseFile(f"{path} has more than {MAX_SIZE} bytes; is it the right file?")
    return data


def check_directories(path: str) -> None:
    """
    Check that no other user can replace the file `path`.

    A directory with the sticky bit, such as ``/tmp``, is accepted, because users can only remove their own
    files.

    :raises LooseFile: another user can replace it.
    :raises OSError: a directory cannot be examined.
    """
    for directory in _directories(path):
        status = os.stat(directory)
        sticky = status.st_mode & stat.S_ISVTX
        _check(directory, status, 0 if sticky else _OTHERS_WRITE)


def check_private(directory: str) -> None:
    """
    Check that no other user can access the files of `directory`.

    :raises LooseFile: its mode gives access to others, or another user can replace it.
    :raises OSError: it does not exist.
    """
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise LooseFile(f"{directory} is not a directory")
    _check(directory, status, _OTHERS)
    check_directories(os.path.realpath(directory))


def _directories(path: str) -> Iterator[str]:
    """The directories above `path`, from the nearest to the root. Symbolic links are resolved."""
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
            f"{path} is accessible to others (mode {stat.S_IMODE(status.st_mode):04o}): chmod {bits} {path}"
        )
