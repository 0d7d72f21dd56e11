# -*- test-case-name: tests.filters.builtin.test_starttls_postgres -*-
"""The common options and factory of the STARTTLS filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from portfwd.filters.api import Connection, Factory
from portfwd.filters.builtin.starttls_upstream import MAX_WAITING
from portfwd.filters.options import OptionError, choice, file_path, option, switch, text
from portfwd.values import Side

#: Options of each mode, with their names in rules files.
_OF_CLIENTS: Final = {"cert": "cert", "key": "key", "client_ca": "client-ca"}
_OF_UPSTREAMS: Final = {
    "ca": "ca",
    "server_name": "server-name",
    "client_cert": "client-cert",
    "client_key": "client-key",
}


@frozen
class StartTLSOptions:
    """The clause's options."""

    mode: str = option(
        choice("terminate", "originate", "answer", "ask"),
        positional=True,
        example="originate",
        help="terminate: TLS with clients ends here. originate: TLS with the upstream begins here. "
        "answer: agree to TLS in place of the upstream, so that a filter behind it sees the ClientHello. "
        "ask: ask the upstream for the TLS that a client has begun behind answer.",
    )
    cert: str | None = option(file_path, default=None, help="terminate: the certificate chain, PEM.")
    key: str | None = option(file_path, default=None, help="terminate: its key; else it is in cert=.")
    client_ca: str | None = option(
        file_path, default=None, help="terminate: authorities of clients' certificates."
    )
    require: bool = option(switch, default=False, help="terminate: refuse clients that go on without TLS.")
    ca: str | None = option(file_path, default=None, help="originate: authorities; else the system's.")
    server_name: str | None = option(
        text, default=None, help="originate: name in the certificate; the target's host if not given."
    )
    verify: bool = option(switch, default=True, help="originate: whether the certificate is verified.")
    client_cert: str | None = option(file_path, default=None, help="originate: our certificate.")
    client_key: str | None = option(file_path, default=None, help="originate: its private key.")

    def __attrs_post_init__(self) -> None:
        """Refuse options that the mode does not use."""
        if self.mode == "terminate" and self.cert is None:
            raise OptionError("mode", "terminate needs a certificate: write cert=FILE")
        for mode, names in (
            ("terminate", (*_OF_CLIENTS, "require")),
            ("originate", (*_OF_UPSTREAMS, "verify")),
        ):
            for name in names:
                if self.mode != mode and getattr(self, name) not in (None, name == "verify"):
                    raise OptionError(name, f"{name.replace('_', '-')}= is for {mode}")

    @property
    def starts_tls(self) -> dict[Side, dict[str, str]]:
        """See `portfwd.filters.api.StartsTLS`."""
        sides = {"terminate": (Side.CLIENT, _OF_CLIENTS), "originate": (Side.UPSTREAM, _OF_UPSTREAMS)}
        if self.mode not in sides:
            return {}
        side, names = sides[self.mode]
        said = {
            key: str(getattr(self, name)) for name, key in names.items() if getattr(self, name) is not None
        }
        if not self.verify:
            said["verify"] = "off"
        return {side: said}

    def factory(self, make: Callable[[], Any]) -> Factory:
        """
        Make the factory of one clause.

        :param make: makes a filter for a connection.
        """
        asks = self.mode in ("originate", "ask")

        def build(connection: Connection) -> Any:
            return make()

        return Factory(build, max_hold=MAX_WAITING, leads=asks, starts_tls=self.starts_tls)
