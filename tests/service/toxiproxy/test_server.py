"""Tests of `portfwd.service.toxiproxy.server`: the ``toxiproxy`` line, asked over HTTP."""

from __future__ import annotations

import json
import os
import socket
import stat
from http.client import HTTPConnection
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from portfwd.errors import StartError
from portfwd.rules.admin_lines import toxiproxy_spec
from portfwd.service.operators.operators import add_operators
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.toxiproxy.server import ToxiproxyServer
from tests.places import short_directory
from tests.service.contexts import a_used_port, rules
from tests.service.run.test_forwarder import TIMEOUT, ForwarderCase


class UnixHTTP(HTTPConnection):
    """HTTP over a unix socket."""

    def connect(self) -> None:
        """Connect to the file that stands in the place of the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.host)


class ServerCase(ForwarderCase):
    """A forwarder and its API."""

    def served(self, line: str, rest: str = "") -> tuple[Forwarder, ToxiproxyServer]:
        """Both, started."""
        forwarder = self.started(rest)
        spec = toxiproxy_spec(rules(line))
        assert spec is not None
        server = ToxiproxyServer(cast(Any, reactor), spec, forwarder)
        server.startService()
        self.addCleanup(self.stop, server)
        return forwarder, server

    def stop(self, server: ToxiproxyServer) -> Deferred[None] | None:
        """Stop it, unless the test did."""
        return server.stopService() if server.running else None

    async def ask(self, server: ToxiproxyServer, method: str, path: str, data: Any = None) -> tuple[int, Any]:
        """A request, in a thread."""
        await self.until(lambda: bool(server.address))
        where = server.address

        def work() -> tuple[int, Any]:
            if where.startswith("unix:"):
                client: HTTPConnection = UnixHTTP(where.removeprefix("unix:"))
            else:
                client = HTTPConnection(where.removeprefix("http://"), timeout=TIMEOUT)
            body = None if data is None else json.dumps(data)
            client.request(method, path, body, {"Host": "localhost"} if where.startswith("unix:") else {})
            answer = client.getresponse()
            found = answer.read()
            client.close()
            return answer.status, json.loads(found) if found else None

        return await self.in_thread(work)


class ServerTests(ServerCase):
    """The listener."""

    async def test_life(self) -> None:
        """It answers at its address until it is stopped; the proxies are the forwarder's to end."""
        forwarder, server = self.served("toxiproxy localhost:0")
        status, proxy = await self.ask(
            server, "POST", "/proxies", {"name": "a", "listen": "localhost:0", "upstream": self.target}
        )
        self.assertEqual((status, forwarder.addresses), (201, {"a": [proxy["listen"]]}))
        self.assertEqual(await self.ask(server, "DELETE", "/proxies/a"), (204, None))
        self.assertRegex(repr(server), r"<ToxiproxyServer http://127\.0\.0\.1:\d+ <ToxicProxies 0>>")
        where = server.address.removeprefix("http://")
        await cast("Deferred[None]", server.stopService())
        self.assertRaises(ConnectionRefusedError, self.connect_to, where)
        self.assertIn("not bound", repr(server))

    async def test_unix(self) -> None:
        """A unix socket is its owner's; its file is made again."""
        path = str(short_directory(self) / "s")
        _, server = self.served(f"toxiproxy unix:{path}")
        self.assertEqual((await self.ask(server, "GET", "/proxies")), (200, {}))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        os.unlink(path)
        self.assertEqual(list(server.renew()), [])
        self.assertEqual((await self.ask(server, "GET", "/proxies")), (200, {}))

    async def test_config(self) -> None:
        """The proxies of its file exist when it answers. If one cannot be made, none is."""
        path = self.mktemp()
        proxies = [
            {"name": "a", "listen": "localhost:0", "upstream": self.target, "toxics": [{"type": "refuse"}]},
            {"name": "b", "listen": f"localhost:{a_used_port(self)}", "upstream": self.target},
        ]
        for count, expected in ((1, [("a", 1)]), (2, [])):
            with open(path, "w") as file:
                json.dump(proxies[:count], file)
            forwarder, server = self.served(f"toxiproxy localhost:0 config={path}")
            _, found = await self.ask(server, "GET", "/proxies")
            self.assertEqual([(name, len(one["toxics"])) for name, one in found.items()], expected)
            self.assertEqual(list(forwarder.addresses), [name for name, _ in expected])

    def test_bad_config(self) -> None:
        """A file that is none is told before anything is bound."""
        for text in (None, "{}"):
            path = self.mktemp()
            if text is not None:
                with open(path, "w") as file:
                    file.write(text)
            problem = self.assertRaises(StartError, self.served, f"toxiproxy localhost:0 config={path}")
            self.assertIn(f"toxiproxy: {path}: ", problem.failures[0])
            self.assertIn("(test.conf:1:1)", problem.failures[0])

    def test_taken(self) -> None:
        """A port that is taken is told."""
        used = a_used_port(self)
        problem = self.assertRaises(StartError, self.served, f"toxiproxy localhost:{used}")
        self.assertIn(f"toxiproxy: cannot listen on 127.0.0.1:{used}", problem.failures[0])

    async def test_stopped_at_once(self) -> None:
        """One that is stopped before its proxies are made does not begin to answer."""
        path = self.mktemp()
        with open(path, "w") as file:
            json.dump([{"name": "a", "listen": "localhost:0", "upstream": self.target}], file)
        forwarder, server = self.served(f"toxiproxy localhost:0 config={path}")
        self.stop(server)
        await self.until(lambda: "a" in forwarder.addresses)
        self.assertEqual((server.address, list(server.renew())), ("", []))

    async def test_operators(self) -> None:
        """The line alone is enough for it to be made beside a forwarder."""
        parent = MultiService()
        forwarder = self.started("")
        renewals = add_operators(parent, rules("toxiproxy localhost:0"), forwarder, cast(Any, reactor))
        (server,) = parent
        assert isinstance(server, ToxiproxyServer)
        self.assertEqual([list(renew()) for renew in renewals], [[]])
        parent.privilegedStartService()
        parent.startService()
        self.addCleanup(parent.stopService)
        self.assertEqual((await self.ask(server, "GET", "/version"))[0], 200)
