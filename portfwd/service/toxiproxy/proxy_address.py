# -*- test-case-name: tests.service.toxiproxy.test_proxy_address -*-
"""
Parses addresses of toxiproxy's clients: ``localhost:0``, ``:8080``, ``[::1]:80``, ``db.example:5432``.

No other address of the rules' grammar is accepted, because the text of a client becomes part of a rule.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

from attrs import frozen

#: RFC 9293 section 3.1: ports have 16 bits.
MAX_PORT: Final = 0xFFFF

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<host>[A-Za-z0-9_.-]{0,253})):(?P<port>[0-9]{1,5})",
    re.ASCII,
)


@frozen
class ProxyAddress:
    """
    A host and a port.

    :ivar host: a name or a literal; empty for all addresses of this machine.
    """

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        """
        Parse the text of a client.

        :raises ValueError: it is not an address.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"]) > MAX_PORT:
            raise ValueError(f"{text[:100]!r} is not HOST:PORT")
        if found["v6"] is not None:
            try:
                ipaddress.IPv6Address(found["v6"])
            except ValueError:
                raise ValueError(f"{text[:100]!r} has no IPv6 address in its brackets") from None
        return cls(found["v6"] or found["host"], int(found["port"]))

    @property
    def here(self) -> ProxyAddress:
        """The address to listen on, in the sense of Go's ``net.Listen``."""
        hosts = {"localhost": "127.0.0.1", "::": ""}
        return ProxyAddress(hosts.get(self.host, self.host), self.port)

    def __str__(self) -> str:
        """The form of toxiproxy."""
        host = self.host or "::"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def words(self) -> str:
        """The form of a rule."""
        return str(self) if self.host else f":{self.port}"
