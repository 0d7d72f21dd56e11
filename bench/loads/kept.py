# -*- test-case-name: tests.bench.test_kept -*-
"""
TLS connections that have moved bulk and stay open: the program that holds them, at the client.

``python -m bench.loads.kept HOST PORT`` does what its input says, a line each: ``open N`` opens N,
fetches `SIZE` bytes of ``/file`` through each and keeps them. It answers ``open GOOD FAILED``.
The certificate is not checked: what is measured is memory.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from typing import Final, TextIO

#: Bytes that each connection fetches before it is quiet: enough for the largest reads that forwarders make.
SIZE: Final = 4 << 20
_TIMEOUT: Final = 20.0


class Fetcher:
    """Opens connections and keeps them."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self.kept: list[http.client.HTTPSConnection] = []

    def _fetch(self) -> bool:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT, context=self._context
        )
        try:
            connection.request("GET", "/file", headers={"Range": f"bytes=0-{SIZE - 1}"})
            good = len(connection.getresponse().read()) == SIZE
        except (OSError, http.client.HTTPException):
            good = False
        if good:
            self.kept.append(connection)
        else:
            connection.close()
        return good

    def command(self, line: str) -> str:
        """``open N``: answer ``open GOOD FAILED``."""
        word, _, argument = line.partition(" ")
        if word != "open":
            return f"unknown {line}"
        good = sum(self._fetch() for _ in range(int(argument)))
        return f"open {good} {int(argument) - good}"


def main(argv: list[str], lines: TextIO = sys.stdin) -> None:
    """Answer each line of standard input."""
    fetcher = Fetcher(argv[0], int(argv[1]))
    for line in lines:
        print(fetcher.command(line.strip()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
