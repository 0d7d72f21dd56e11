"""Tests for `portfwd.filters.api`."""

from __future__ import annotations

from attrs import frozen
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.errors import ConnectRefused
from portfwd.filters import (
    API_VERSION,
    DONE,
    DROP,
    TO_CLIENT,
    TO_UPSTREAM,
    Connection,
    Factory,
    Filter,
    IFilter,
    IFilterFactory,
    IFilterPlugin,
    InetAddress,
    Plugin,
)

CLIENT = InetAddress("192.0.2.1", 5000)
LOCAL = InetAddress("198.51.100.1", 80)
REAL = InetAddress("203.0.113.9", 4000)


@frozen
class NoOptions:
    """Options of a filter that has none."""


class ContractTests(SynchronousTestCase):
    """The base class and the two makers keep the interfaces."""

    def test_interfaces(self) -> None:
        """What authors build on provides what the relay asks for."""
        factory = Factory(lambda connection: Filter())
        verifyObject(IFilter, Filter())
        verifyObject(IFilterFactory, factory)
        plugin = Plugin("nothing", "Does nothing.", NoOptions, lambda options, clauses: factory)
        verifyObject(IFilterPlugin, plugin)
        self.assertEqual(plugin.api_version, API_VERSION)
        self.assertIs(plugin.configure(NoOptions(), ()), factory)

    def test_base_class(self) -> None:
        """The base class passes everything and is done at the first bytes."""
        one, connection = Filter(), Connection(1, "web", Logger())
        self.assertIs(one.opened(connection), None)
        self.assertIs(one.received(TO_UPSTREAM, b"x"), DONE)
        self.assertIs(one.received(TO_CLIENT, b"x"), DONE)
        self.assertIs(one.connected(LOCAL), None)
        self.assertIs(one.dial_failed(ConnectRefused("no")), None)
        self.assertIs(one.ended(TO_CLIENT, b""), None)
        self.assertIs(one.resumed(None), None)
        self.assertIs(one.woken(None), None)

    def test_build(self) -> None:
        """A factory out of a function builds what the function makes of the connection."""
        connection = Connection(1, "web", Logger())
        seen: list[Connection] = []
        self.assertIs(Factory(seen.append).build(connection), None)
        self.assertEqual(seen, [connection])

    def test_signs(self) -> None:
        """Verdicts without values print as what authors write."""
        self.assertEqual([repr(sign) for sign in (DONE, DROP)], ["DONE", "DROP"])


class ConnectionTests(SynchronousTestCase):
    """Whose connection it is."""

    def test_own(self) -> None:
        """Nobody was announced: it is the client's, at the address that accepted it."""
        connection = Connection(1, "web", Logger(), client=CLIENT, local=LOCAL)
        self.assertEqual((connection.source, connection.destination), (CLIENT, LOCAL))

    def test_announced(self) -> None:
        """Somebody was announced: it is theirs, and the place they went to is theirs to say."""
        connection = Connection(1, "web", Logger(), client=CLIENT, local=LOCAL, announced=REAL)
        self.assertEqual((connection.source, connection.destination), (REAL, None))
