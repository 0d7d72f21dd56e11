# -*- test-case-name: tests.filters.builtin.test_destinations -*-
"""
Where clients of a proxy may go: ``allow=`` and ``deny=`` of `socks5` and `http-connect`.

Networks are compared with the addresses that are about to be dialled, never with
names: whoever owns a name decides what it resolves to. ``deny`` beats
``allow``; with an ``allow``, everything else is refused. Without one, near addresses
(`portfwd.filters.builtin.near`) are refused too, whatever ``deny`` names: a network added to ``deny`` opens
nothing. An IPv4 network in ``deny`` also refuses IPv6 addresses that embed one of its addresses. A unix
socket is always refused, and so is the unspecified address, which the kernel treats as loopback.
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
    The questions of one dial, and how they were answered.

    :ivar refused: something was asked, and all of it refused.
    """

    __slots__ = ("_destinations", "_permitted", "refused")

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._permitted = self.refused = False

    def permits(self, address: Address) -> bool:
        """For `portfwd.filters.api.Route`."""
        permitted = self._destinations.permits(address)
        self._permitted = self._permitted or permitted
        self.refused = not self._permitted
        return permitted
