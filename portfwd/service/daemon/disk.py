# -*- test-case-name: tests.service.daemon.test_disk -*-
"""
Implements `portfwd.rules.Files` with the file system and the services database of the system.

Text is UTF-8, with or without a byte order mark. Files that are too large are refused. Bytes that are not
UTF-8 are refused, with the place of the first one.
"""

from __future__ import annotations

import codecs
import glob
import os
import socket
from typing import Final

from attrs import frozen

from portfwd.errors import Location, Problem, RulesError
from portfwd.service.daemon.regular import read_regular
from portfwd.values import counted

#: Maximum bytes of a rules file: a hundred times the size of 10 000 rules. A larger file is not a rules file.
MAX_FILE_SIZE: Final = 64 * 1024**2


@frozen
class DiskFiles:
    """
    Files of this machine; relative paths are relative to the working directory.

    :ivar max_size: maximum bytes of one file.
    """

    max_size: int = MAX_FILE_SIZE

    def read(self, path: str) -> str:
        """
        The text of a file.

        :raises OSError: it cannot be read.
        :raises RulesError: it is larger than `max_size` or not UTF-8.
        """
        return self.decode(path, read_regular(path, self.max_size))

    def decode(self, path: str, data: bytes) -> str:
        """
        The text of `data`, which are the bytes of `path`.

        :raises RulesError: it is larger than `max_size` or not UTF-8.
        """
        if len(data) > self.max_size:
            raise RulesError(
                [
                    Problem(
                        Location(path),
                        "file-too-large",
                        f"the file has more than {counted(self.max_size, 'byte')}",
                        "is this a rules file?",
                    )
                ]
            )
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RulesError([_not_utf_8(path, data, error)]) from None

    def glob(self, pattern: str, beside: str) -> list[str]:
        """The files that match `pattern`, relative to the directory of `beside`, in alphabetical order."""
        directory = os.path.dirname(beside)
        # The name of the directory may contain special characters of glob.
        pattern = os.path.join(glob.escape(directory), pattern)
        found = glob.glob(pattern, recursive=False)
        return sorted(os.path.normpath(path) for path in found if not os.path.isdir(path))

    def port_of_service(self, name: str, protocol: str) -> int | None:
        """The port of a service in ``/etc/services``, or None."""
        try:
            return socket.getservbyname(name, protocol)
        except OSError:
            return None


def _not_utf_8(path: str, data: bytes, error: UnicodeDecodeError) -> Problem:
    start = data.rfind(b"\n", 0, error.start) + 1
    end = data.find(b"\n", error.start)
    text = data[start : len(data) if end < 0 else end].removesuffix(b"\r").decode("utf-8", "replace")
    column = len(data[start : error.start].decode("utf-8")) + 1
    where = Location(path, data.count(b"\n", 0, error.start) + 1, column, 1, text)
    return Problem(
        where,
        "not-utf-8",
        f"byte 0x{data[error.start]:02x} is not UTF-8",
        "save the file as UTF-8",
    )
