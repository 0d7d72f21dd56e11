# -*- test-case-name: tests.listen.test_unix_names -*-
"""
Whether some socket is bound to the path of a unix socket's file, according to the kernel.

A connection cannot show that: a socket that is bound and does not listen yet refuses it with the same error
as a file whose process is gone. Linux lists the unix sockets of a network namespace in ``/proc/net/unix``,
each with the path to which it was bound. That path may be relative to a directory that nobody knows, so a
relative path with the same last part counts as the same. Sockets of other network namespaces are not listed.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

#: Where Linux lists unix sockets; see proc_net_unix in proc(5).
TABLE: Final = "/proc/net/unix"

#: A line of it: seven columns, then the path if there is one.
_LINE: Final = re.compile(rb"[0-9a-fA-F]+:(?: +\S+){6} (.+)")


def is_bound(path: str) -> bool:
    """
    Whether a socket may be bound to `path`.

    True also where Linux does not show its table, or where the path has a line feed, which the table does not
    escape: whoever asks would remove the file. Other systems have no such table; False there.
    """
    if sys.platform != "linux":  # pragma: no cover - not Linux
        return False
    name = os.fsencode(path)
    if b"\n" in name:
        return True
    try:
        with open(TABLE, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return True
    last = os.path.basename(name)
    found = (match[1] for line in lines if last in line and (match := _LINE.fullmatch(line)))
    return any(os.path.basename(one) == last and _may_be(one, name) for one in found)


def _may_be(bound: bytes, name: bytes) -> bool:
    """Whether two paths with the same last part may lead to the same file."""
    if not bound.startswith(b"/"):
        return not bound.startswith(b"@")  # an abstract name has no file
    try:
        return os.path.samefile(os.path.dirname(bound), os.path.dirname(os.path.abspath(name)))
    except OSError:  # the directory was removed, or may not be looked into
        return False
