# -*- test-case-name: tests.service.daemon.test_creating -*-
"""
Checks whether a file could be created, without creating it.

The permission bits of a directory do not suffice: in ``/proc`` and ``/sys`` nobody can create files.
"""

from __future__ import annotations

import errno
import os


def try_to_create(path: str) -> None:
    """
    Check whether a file that does not exist could be created, as far as possible without doing so.

    :raises OSError: it could not; the exception names `path`.
    """
    directory = os.path.dirname(os.path.realpath(path))  # a link may lead to where nothing is
    try:
        os.stat(directory + "/")  # with the '/' a file is an error, too
    except OSError as problem:
        raise OSError(problem.errno, os.strerror(problem.errno or 0), path) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    if not _holds_files(directory):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _holds_files(directory: str) -> bool:
    """Whether `directory` is on a file system with space for files; those of the kernel have none."""
    if not hasattr(os, "O_TMPFILE") or os.statvfs(directory).f_blocks:
        return True
    # A tmpfs without a limit has no blocks, either, but nameless files.
    try:
        os.close(os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    return True
