"""Tests of the streams of a rule with a ``tls:`` listener."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.registry import Registry
from portfwd.kernel.platform import Platform
from portfwd.relay.context import RelayContext
from portfwd.rules import parse
from portfwd.service.build.filters import configure
from portfwd.service.tls.listening import tls_streams
from portfwd.streams.opening import StreamMaker
from portfwd.values import InetAddress, UnixAddress
from tests.service.pems import CA, directory_of, write_pair


class StreamsTests(SynchronousTestCase):
    """`tls_streams`."""

    def setUp(self) -> None:
        """A good pair."""
        self.clock = Clock()
        self.cert, self.key = write_pair(directory_of(self), "a", CA.issue_cert("a.example"))

    def context(self, *, own_sockets: bool = True) -> RelayContext:
        """Surroundings, as far as they are looked at."""
        reactor: Any = self.clock
        platform = Platform(own_sockets=own_sockets, epoll=False)
        return RelayContext(reactor, platform, cast(Any, None), StreamMaker(reactor, None))

    def expects(self, clauses: str) -> Any:
        """Who is expected to send a PROXY header before TLS."""
        (rule,) = parse(f"tls::1 cert={self.cert} key={self.key} -> 10.0.0.1:1\n{clauses}", "f").rules
        filters = configure(rule, Registry.installed()).clauses if clauses else ()
        return tls_streams(rule, self.context(), filters).expects_header

    def test_headers(self) -> None:
        """Those whom a proxy-in filter trusts, if it is the first one."""
        self.assertIsNone(self.expects(""))
        self.assertIsNone(self.expects("    filter hexdump\n"))
        expects = self.expects("    filter proxy-in trust=10.0.0.0/8 untrusted=pass\n")
        self.assertTrue(expects(InetAddress("10.1.2.3", 4)))
        self.assertFalse(expects(InetAddress("192.0.2.1", 4)))
        self.assertTrue(expects(UnixAddress("")))

    def test_portable(self) -> None:
        """Where sockets cannot be our own the way out is told."""
        (rule,) = parse(f"tls::1 cert={self.cert} key={self.key} -> 10.0.0.1:1\n", "f").rules
        problem = self.assertRaises(ValueError, tls_streams, rule, self.context(own_sockets=False), ())
        self.assertIn("endpoint:", str(problem))
