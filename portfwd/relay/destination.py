# -*- test-case-name: tests.relay.test_dial -*-
"""
A target, made ready to be dialled, and how many sessions have it.

It refuses to dial: that is `portfwd.relay.dial`'s.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from attrs import field, frozen
from twisted.internet.interfaces import IStreamClientEndpoint

from portfwd.kernel.sockets import WILL_SEND, Settings, upstream_settings
from portfwd.limits.occupancy import TargetOccupancy
from portfwd.rules.model import Options
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.values import Address, InetAddress, TLSInfo, is_literal


@runtime_checkable
class TLSTarget(Protocol):
    """What a ``tls:`` target verifies and shows."""

    def for_client(self, client: TLSInfo | None) -> TLSSide:
        """
        The side of one connection.

        :param client: what the client's own handshake said, of which some options ask for a part.
        """


@frozen(eq=False)
class Destination:
    """
    A target, made ready to be dialled.

    :ivar label: the target as the file writes it.
    :ivar key: what tells it from all others: its label, and what it speaks.
    :ivar address: where it is, or None for an endpoint.
    :ivar endpoint: Twisted's endpoint, or None for an address.
    :ivar tls: makes the TLS connection to be had on top, or None.
    :ivar occupancy: how many sessions have it, if they are counted; and how often it could not be reached.
    :ivar is_counted: the sessions of the rule's targets are counted: they are balanced or limited.
    :ivar datagrams: it takes datagrams.
    :ivar is_chosen: a client chose it, not the rules file.
    :ivar settings: what is set on a socket before it connects.
    """

    label: str
    options: Options
    address: Address | None = None
    endpoint: IStreamClientEndpoint | None = None
    tls: TLSTarget | None = None
    datagrams: bool = False
    is_chosen: bool = False
    is_counted: bool = field()
    occupancy: TargetOccupancy = field(factory=TargetOccupancy)
    settings: Settings = field(init=False)

    @is_counted.default
    def _is_counted(self) -> bool:
        return self.options.max_conns_per_target is not None

    @settings.default
    def _settings(self) -> Settings:
        return upstream_settings(self.options)

    @property
    def key(self) -> str:
        """See the class."""
        return f"{self.label}/udp" if self.datagrams else self.label

    @property
    def is_named(self) -> bool:
        """Whether its host is a name that is to be resolved."""
        return isinstance(self.address, InetAddress) and not is_literal(self.address.host)

    def settings_for(self, *, will_send: bool) -> Settings:
        """The settings of one socket; `will_send`: something is sent as soon as it is connected."""
        return self.settings + WILL_SEND if will_send else self.settings

    def take(self) -> bool:
        """One session more; False where it has as many as it may."""
        if self.is_counted:
            limit = self.options.max_conns_per_target
            if limit is not None and self.occupancy.taken >= limit:
                return False
            self.occupancy.take()
        return True

    def give_back(self) -> None:
        """One session less."""
        if self.is_counted:
            self.occupancy.give_back()
