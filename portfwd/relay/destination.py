# -*- test-case-name: tests.relay.test_dial -*-
"""A target prepared for dialling, with the count of its sessions. `portfwd.relay.dial` dials it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from attrs import field, frozen
from twisted.internet.interfaces import IStreamClientEndpoint

from portfwd.kernel.socket_options import WILL_SEND, Settings, upstream_settings
from portfwd.limits.occupancy import TargetOccupancy
from portfwd.rules.model import Options
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.values import Address, TLSInfo, named_host


@runtime_checkable
class TLSTarget(Protocol):
    """The TLS settings of a ``tls:`` target."""

    def for_client(self, client: TLSInfo | None) -> TLSSide:
        """
        Make the TLS side of one connection.

        :param client: result of the client's handshake, which some options use.
        """

    def for_name(self, name: str) -> TLSSide:
        """
        The side of a connection whose server has to show a certificate for `name`.

        :raises ValueError: no certificate can have this name.
        """


@frozen(eq=False)
class Destination:
    """
    A target prepared for dialling.

    :ivar label: the target as written in the file.
    :ivar key: its unique key: the label and the protocol.
    :ivar address: its address, or None for an endpoint.
    :ivar endpoint: an endpoint of Twisted, or None for an address.
    :ivar tls: makes the TLS side of a connection, or None.
    :ivar occupancy: the counts of its sessions, if they are counted, and of its failures.
    :ivar is_counted: whether sessions are counted, because targets are balanced or limited.
    :ivar datagrams: whether it is for datagrams.
    :ivar is_chosen: whether a client chose it, and not the rules file.
    :ivar settings: settings of a socket before it connects.
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
        """Whether its host is a name."""
        return named_host(self.address) is not None

    def settings_for(self, *, will_send: bool) -> Settings:
        """The settings of one socket. `will_send`: whether bytes are sent as soon as it is connected."""
        return self.settings + WILL_SEND if will_send else self.settings

    def take(self) -> bool:
        """Count one session more. False if its limit is reached."""
        if self.is_counted:
            limit = self.options.max_conns_per_target
            if limit is not None and self.occupancy.taken >= limit:
                return False
            self.occupancy.take()
        return True

    def give_back(self) -> None:
        """Count one session less."""
        if self.is_counted:
            self.occupancy.give_back()
