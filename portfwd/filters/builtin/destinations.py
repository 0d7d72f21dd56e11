# -*- test-case-name: tests.filters.builtin.test_destinations -*-
"""
The permitted destinations of a proxy's clients: ``allow=`` and ``deny=`` of `socks5` and `http-connect`.

Networks are compared with the addresses to be dialled and never with names, because the owner of a name
decides its addresses. ``deny`` has precedence over ``allow``. With ``allow``, all other addresses are
refused. Without it, near addresses (`portfwd.filters.builtin.near`) are refused too, whatever ``deny``
contains. An IPv4 network in ``deny`` also refuses IPv6 addresses that embed one of its addresses. Unix
sockets are always refused, and so is the unspecified address, which the kernel treats as loopback.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from portfwd.filters.builtin.near import forms_of, is_near
from portfwd.filters.options import Network
from portfwd.values import Address, InetAddress, unmapped


class Destinations:
    """The networks that one clause allows and denies."""

    __slots__ = ("_allow", "_allows_near", "_deny")

    def __init__(self, allow: Sequence[Network] = (), deny: Sequence[Network] = ()) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._allows_near = bool(allow)

    def permits(self, address: Address) -> bool:
        """Whether `address` may be dialled."""
        if not isinstance(address, InetAddress):
            return False
        try:
            ip = ipaddress.ip_address(unmapped(address.host.partition("%")[0]))
        except ValueError:
            return False
        if ip.is_unspecified or (is_near(ip) and not self._allows_near):
            return False
        if any(form in network for form in forms_of(ip) for network in self._deny):
            return False
        return not self._allow or any(ip in network for network in self._allow)


class Permission:
    """
    The decisions about the addresses of one dial.

    :ivar refused: whether there were addresses and all of them were refused.
    """

    __slots__ = ("_destinations", "_permitted", "refused")

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._permitted = self.refused = False

    def permits(self, address: Address) -> bool:
        """Decide about an address, for `portfwd.filters.api.Route`."""
        permitted = self._destinations.permits(address)
        self._permitted = self._permitted or permitted
        self.refused = not self._permitted
        return permitted
