# -*- test-case-name: tests.service.toxiproxy.test_places -*-
"""
Addresses as toxiproxy's clients write them: ``localhost:0``, ``:8080``, ``[::1]:80``, ``db.example:5432``.

Nothing else of the rules' grammar is taken: what a client says becomes part of a rule.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

from attrs import frozen

#: RFC 9293 section 3.1: ports have 16 bits.
MAX_PORT: Final = 0xFFFF

_PLACE: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<host>[A-Za-z0-9_.-]{0,253})):(?P<port>[0-9]{1,5})",
    re.ASCII,
)


@frozen
class ProxyPlace:
    """
    A host and a port.

    :ivar host: a name or a literal; empty for every address of this machine.
    """

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        """
        Read what a client says.

        :raises ValueError: it is no address.
        """
        found = _PLACE.fullmatch(text)
        if found is None or int(found["port"]) > MAX_PORT:
            raise ValueError(f"{text[:100]!r} is no HOST:PORT")
        if found["v6"] is not None:
            try:
                ipaddress.IPv6Address(found["v6"])
            except ValueError:
                raise ValueError(f"{text[:100]!r} has no address between its brackets") from None
        return cls(found["v6"] or found["host"], int(found["port"]))

    @property
    def here(self) -> ProxyPlace:
        """The same as an address to listen on, as Go's ``net.Listen`` takes it."""
        hosts = {"localhost": "127.0.0.1", "::": ""}
        return ProxyPlace(hosts.get(self.host, self.host), self.port)

    def __str__(self) -> str:
        """As toxiproxy tells it."""
        host = self.host or "::"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def words(self) -> str:
        """As a rule has it."""
        return str(self) if self.host else f":{self.port}"
