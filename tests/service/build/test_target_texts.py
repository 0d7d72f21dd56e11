"""Tests of `portfwd.service.build.target_texts`, and of routes to targets that a filter writes."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import InetAddress
from portfwd.relay.rule import MOST_WRITTEN
from portfwd.rules import parse
from portfwd.rules.model import Kind, Options
from portfwd.service.build.build import live_rules
from portfwd.service.build.target_texts import listener_options, read_target, target_options
from tests.service.contexts import Lines, a_context


class ReadTests(SynchronousTestCase):
    """Texts."""

    def test_options(self) -> None:
        """A target has the options of its text, and else those of the rule."""
        target = read_target("tls:db.example:5432 server-name=db src=10.0.0.1", Options(connect_timeout=3.0))
        self.assertEqual((target.kind, target.host), (Kind.TLS, "db.example"))
        options = target.options
        self.assertEqual((options.server_name, options.src, options.connect_timeout), ("db", "10.0.0.1", 3.0))

    def test_refused(self) -> None:
        """What a rules file would not have is refused, with the file's words."""
        for text, words in (
            ("nonsense", "nonsense"),
            ("a:1, b:2", "not one target"),
            ("a:1 server-name=x", "server-name"),
            ("a:1\n:2 -> b:3", "no line"),
            ("", ""),
        ):
            error = self.assertRaises(ValueError, read_target, text, Options())
            self.assertIn(words, str(error))

    def test_tls(self) -> None:
        """Options of TLS are named and written as in a rules file; blanks need no quotes."""
        listen = listener_options({"cert": "/a file.pem", "handshake-timeout": "3s"})
        self.assertEqual((listen.cert, listen.handshake_timeout), ("/a file.pem", 3.0))
        self.assertEqual(target_options({"verify": "off", "ca": "/ca"}).verify, False)
        for wrong in ({"cert": "/a", "nonsense": "1"}, {"min-version": "9"}):
            self.assertRaises(ValueError, listener_options, wrong)


class FindTests(SynchronousTestCase):
    """Targets of a rule at work."""

    def rule(self, text: str) -> Any:
        """The only rule of a file."""
        (planned,) = live_rules(parse(text, "f"), a_context(Clock()), Lines())
        return planned.live

    def test_names(self) -> None:
        """A name is that of a ``target`` clause; an address is itself; a text is read once."""
        live = self.rule(
            ":2 -> 127.0.0.1:1\n    target app=127.0.0.1:2\n    filter sni\n    route x -> app\n"
        )
        self.assertEqual(live.find_target("app").name, "app")
        address = InetAddress("127.0.0.1", 3)
        self.assertIs(live.find_target(address), address)
        self.assertEqual(live.find_target("127.0.0.1:4 src=127.0.0.1"), "127.0.0.1:4 src=127.0.0.1")
        for wrong in ("other", "tls:", object()):
            self.assertRaises(ValueError, live.find_target, wrong)
        error = self.assertRaises(ValueError, live.find_target, "other-app")
        self.assertEqual(str(error), "other-app: this rule has no target of that name")

    def test_datagrams(self) -> None:
        """Datagrams and streams do not go together."""
        self.assertRaises(ValueError, self.rule(":2 -> 127.0.0.1:1").find_target, "127.0.0.1:1/udp")

    def test_bounded(self) -> None:
        """Texts that clients have a part in are not kept for ever."""
        live = self.rule(":2 -> 127.0.0.1:1")
        live.read_target = read = mock.Mock(wraps=live.read_target)
        for number in range(MOST_WRITTEN + 1):
            live.find_target(f"h{number}.example:1")
        read.reset_mock()
        for number in (1, MOST_WRITTEN):
            live.find_target(f"h{number}.example:1")
        read.assert_not_called()
        live.find_target("h0.example:1")
        read.assert_called_once()
