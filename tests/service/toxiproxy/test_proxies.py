"""Tests of `portfwd.service.toxiproxy.proxies`: proxies as rules of a forwarder at work."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from portfwd.admin.toxiproxy_api import Toxiproxies, ToxiproxyError
from portfwd.filters import registry
from portfwd.rules.model import Rule
from portfwd.service.build.build import RuleMaker
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.reload import ReloadResult
from portfwd.service.toxiproxy import proxies as module
from portfwd.service.toxiproxy.proxies import ToxicProxies
from portfwd.values import CloseReason
from tests.service.contexts import a_free_port, a_used_port, rules
from tests.service.run.test_forwarder import TIMEOUT, ForwarderCase

LATENCY = {"type": "latency", "attributes": {"latency": 60_000}}


class ProxiesCase(ForwarderCase):
    """A forwarder without rules, and its proxies."""

    def setUp(self) -> Deferred[None]:
        waiting = super().setUp()
        self.relay = self.started("")
        self.proxies = self.proxies_of(self.relay)
        return waiting

    def proxies_of(self, forwarder: Forwarder) -> ToxicProxies:
        """The proxies of a forwarder."""
        made = ToxicProxies(forwarder, cast(Any, reactor))
        api: Toxiproxies = made
        self.assertIs(api, made)
        return made

    async def made(self, name: str = "a", **fields: Any) -> dict[str, Any]:
        """A new proxy in front of the upstream."""
        data = {"name": name, "listen": "localhost:0", "upstream": self.target, **fields}
        return await self.proxies.create(data)

    async def problem(self, work: Any) -> tuple[str, int]:
        """The text and the status of what is refused."""
        try:
            await work
        except ToxiproxyError as problem:
            return str(problem), problem.status
        raise AssertionError("it was not refused")

    async def conversation(self, address: str) -> tuple[socket.socket, socket.socket]:
        """A client and the upstream's side, which have fields something to each other."""

        def meet() -> tuple[socket.socket, socket.socket]:
            client = self.connect_to(address)
            server = self.accept()
            client.sendall(b"question")
            self.assertEqual(server.recv(100), b"question")
            return client, server

        return await self.in_thread(meet)

    def ended(self, sock: socket.socket) -> bool:
        """Whether the connection is over; blocking."""
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True


class ProxyTests(ProxiesCase):
    """Proxies come, move and go."""

    async def test_create(self) -> None:
        """A proxy is a rule like others, where its answer says."""
        proxy = await self.made(name="my_db")
        self.assertEqual(
            {**proxy, "listen": ""},
            {
                "name": "my_db", "listen": "", "upstream": self.target, "enabled": True, "protocol": "tcp",
                "toxics": [],
            },
        )  # fmt: skip
        self.assertEqual(self.relay.addresses, {"my_db": [proxy["listen"]]})
        self.assertEqual((self.proxies.proxy("my_db"), self.proxies.proxies()), (proxy, {"my_db": proxy}))
        client, server = await self.conversation(proxy["listen"])
        server.sendall(b"answer")
        self.assertEqual(await self.in_thread(lambda: client.recv(100)), b"answer")
        (live,) = self.relay.rules
        self.assertEqual((live.counts.total, str(live.rule.where)), (1, "toxiproxy proxy 'my_db'"))
        self.assertEqual({name for name, _ in live.filters}, {"toxic"})
        self.assertEqual(self.relay.reloads, 0)

    async def test_disabled(self) -> None:
        """A disabled one listens nowhere; disabling one closes its connections, and keeps its port."""
        proxy = await self.made(enabled=False)
        self.assertEqual((proxy["enabled"], proxy["listen"]), (False, "127.0.0.1:0"))
        self.assertEqual(self.relay.addresses, {})
        proxy = await self.proxies.update("a", {"enabled": True})
        client, _ = await self.conversation(proxy["listen"])
        down = await self.proxies.update("a", {"enabled": False})
        self.assertEqual((down["enabled"], down["listen"]), (False, proxy["listen"]))
        self.assertTrue(await self.in_thread(lambda: self.ended(client)))
        self.assertRaises(ConnectionRefusedError, self.connect_to, proxy["listen"])
        self.assertEqual(await self.proxies.update("a", {"enabled": True}), proxy)
        await self.conversation(proxy["listen"])

    async def test_moved(self) -> None:
        """Another address or another upstream closes the connections; nothing else does."""
        proxy = await self.made()
        client, _ = await self.conversation(proxy["listen"])
        same = {"listen": proxy["listen"].replace("127.0.0.1", "localhost"), "upstream": self.target}
        self.assertEqual(await self.proxies.update("a", same), proxy)
        self.assertEqual(self.relay.session_count, 1)
        moved = await self.proxies.update("a", {"upstream": "127.0.0.1:1"})
        self.assertEqual((moved["listen"], moved["upstream"]), (proxy["listen"], "127.0.0.1:1"))
        self.assertTrue(await self.in_thread(lambda: self.ended(client)))
        port = a_free_port()
        moved = await self.proxies.update("a", {"listen": f":{port}", "upstream": self.target})
        self.assertEqual((moved["listen"], moved["enabled"]), (f"[::]:{port}", True))
        await self.conversation(f"127.0.0.1:{port}")

    async def test_deleted(self) -> None:
        """A proxy that is deleted is gone, with its connections; its name is free."""
        proxy = await self.made()
        client, _ = await self.conversation(proxy["listen"])
        await self.proxies.delete("a")
        self.assertTrue(await self.in_thread(lambda: self.ended(client)))
        self.assertEqual((self.proxies.proxies(), self.relay.addresses), ({}, {}))
        await self.made()

    async def test_refused(self) -> None:
        """What cannot be is refused, with toxiproxy's words and codes, and nothing is changed."""
        port = a_used_port(self)
        await self.made()
        for fields, expected in (
            ({}, ("proxy already exists", 409)),
            ({"name": ""}, ("missing required field: name", 400)),
            ({"name": "b", "upstream": None}, ("missing required field: upstream", 400)),
            ({"name": "b", "protocol": "sctp"}, ("protocol was invalid, can be either tcp or udp", 400)),
            ({"name": "b", "toxics": {}}, ("bad request body: toxics must be a list", 400)),
            ({"name": "b", "toxics": [{"type": "x"}]}, ("invalid toxic type", 400)),
            ({"name": "b", "toxics": [LATENCY, LATENCY]}, ("toxic already exists", 409)),
            ({"name": "b", "enabled": 1}, ("bad request body: enabled must be true or false", 400)),
            ({"name": 5}, ("bad request body: name must be text of 200 characters at most", 400)),
            ({"name": "b", "listen": "x"}, ("bad request body: 'x' is not HOST:PORT", 400)),
        ):
            self.assertEqual(await self.problem(self.made(**fields)), expected)
        text, status = await self.problem(self.made("b", listen=f"localhost:{port}"))
        self.assertEqual(status, 500)
        self.assertIn("in use", text)
        text, status = await self.problem(self.made("b", upstream="bad..name:1"))
        self.assertEqual(status, 400)
        self.assertEqual(
            await self.problem(self.proxies.create([])), ("bad request body: expected an object", 400)
        )
        for work in (self.proxies.update("x", {}), self.proxies.delete("x")):
            self.assertEqual(await self.problem(work), ("proxy not found", 404))
        self.patch(module, "MOST_PROXIES", 1)
        self.assertEqual(await self.problem(self.made("b")), ("too many proxies: there are at most 1", 409))
        self.assertEqual(list(self.proxies.proxies()), ["a"])

    async def test_names(self) -> None:
        """A name that no rule may have, or that a rule has, is changed for the rule only."""
        self.relay = self.started(f"web: 127.0.0.1:0 -> {self.target}\n")
        self.proxies = self.proxies_of(self.relay)
        for name in ("web", "my proxy", "my/proxy"):
            self.assertEqual((await self.made(name))["name"], name)
        self.assertEqual(
            list(self.relay.addresses), ["web", "toxiproxy-web", "toxiproxy-my-proxy", "toxiproxy-my-proxy-2"]
        )
        self.assertEqual(repr(self.proxies), "<ToxicProxies 3>")

    async def test_at_once(self) -> None:
        """Requests that come at once are obeyed one after the other."""
        work = [Deferred.fromCoroutine(self.made(name)) for name in "abcd"]
        for one in work:
            await one
        self.assertEqual(sorted(self.relay.addresses), list("abcd"))

    async def test_udp(self) -> None:
        """A proxy for datagrams, with a toxic that only these have."""
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(upstream.close)
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(TIMEOUT)
        loss = {"type": "loss", "stream": "upstream", "name": "l", "attributes": {"fraction": 1}}
        proxy = await self.made(
            protocol="udp", upstream=f"127.0.0.1:{upstream.getsockname()[1]}", toxics=[loss]
        )
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        host, port = proxy["listen"].split(":")
        client.connect((host, int(port)))
        client.send(b"lost")
        await self.until(lambda: self.relay.session_total == 1)
        await self.proxies.remove_toxic("a", "l")
        client.send(b"comes")
        self.assertEqual(await self.in_thread(lambda: upstream.recv(100)), b"comes")

    async def test_reload(self) -> None:
        """A reload of the file keeps proxies and their connections; a rule of that name is refused."""
        proxy = await self.made()
        client, server = await self.conversation(proxy["listen"])
        new = f"web: 127.0.0.1:0 -> {self.target}\n"
        result = await self.relay.reload(rules(new))
        self.assertTrue(result.applied)
        self.assertEqual(list(self.relay.addresses), ["web", "a"])
        self.assertEqual((self.relay.addresses["a"], self.relay.reloads), ([proxy["listen"]], 1))
        server.sendall(b"answer")
        self.assertEqual(await self.in_thread(lambda: client.recv(100)), b"answer")
        result = await self.relay.reload(rules(new + f"a: 127.0.0.1:0 -> {self.target}\n"))
        self.assertIn("added at run time", result.failures[0])
        await self.proxies.add_toxic("a", {"type": "refuse"})
        self.assertEqual(self.proxies.proxy("a")["toxics"][0]["name"], "refuse_downstream")
        await self.proxies.delete("a")
        self.assertEqual(list(self.relay.addresses), ["web"])

    async def test_stopped(self) -> None:
        """A forwarder that has stopped takes no proxy."""
        await self.relay.stopService()
        self.assertEqual(await self.problem(self.made()), ("the forwarder is not running", 500))


class PopulateTests(ProxiesCase):
    """Several at once, and all back to the beginning."""

    async def populate(self, *fields: dict[str, Any]) -> tuple[list[str], str]:
        """The names that there are then, and what was wrong."""
        made, problem = await self.proxies.populate([{"upstream": self.target, **one} for one in fields])
        return [one["name"] for one in made], "" if problem is None else str(problem)

    async def test_populate(self) -> None:
        """New ones are made, those that are the same stay, others are replaced with all they had."""
        made = await self.populate({"name": "a", "listen": "localhost:0"}, {"name": "b", "enabled": False})
        self.assertEqual(made, (["a", "b"], ""))
        first = self.proxies.proxy("a")
        await self.proxies.add_toxic("a", LATENCY)
        client, _ = await self.conversation(first["listen"])
        await self.populate({"name": "a", "listen": first["listen"]})
        self.assertEqual((self.relay.session_count, len(self.proxies.toxics("a"))), (1, 1))
        await self.populate({"name": "a", "listen": "localhost:0", "toxics": [{"type": "refuse"}]})
        self.assertTrue(await self.in_thread(lambda: self.ended(client)))
        self.assertEqual([one["type"] for one in self.proxies.toxics("a")], ["refuse"])
        self.assertEqual(list(self.relay.addresses), ["a"])

    async def test_problems(self) -> None:
        """If one of them cannot be made, none is made."""
        self.assertEqual(
            await self.populate({"name": "a"}, {}), ([], "missing required field: name at proxy 2")
        )
        made, problem = await self.proxies.populate({})
        self.assertEqual((made, str(problem)), ([], "bad request body: expected a list of proxies"))
        used = f"127.0.0.1:{a_used_port(self)}"
        made_names, text = await self.populate(
            {"name": "a", "listen": "localhost:0"}, {"name": "b", "listen": used}
        )
        self.assertEqual((made_names, self.proxies.proxies(), self.relay.addresses), ([], {}, {}))
        self.assertIn("in use", text)
        self.patch(module, "MOST_PROXIES", 1)
        self.assertEqual(
            await self.populate({"name": "a", "enabled": False}, {"name": "b", "enabled": False}),
            ([], "too many proxies: there are at most 1"),
        )

    async def test_failed_replacement(self) -> None:
        """A proxy whose new address is taken stays as it was, with its toxics and connections."""
        await self.populate({"name": "a", "listen": "localhost:0", "toxics": [LATENCY]})
        first = self.proxies.proxy("a")
        await self.conversation(first["listen"])
        used = f"127.0.0.1:{a_used_port(self)}"
        made, text = await self.populate({"name": "a", "listen": used})
        self.assertEqual((made, self.proxies.proxy("a"), self.relay.session_count), ([], first, 1))
        self.assertIn("in use", text)
        text, status = await self.problem(self.proxies.update("a", {"listen": used}))
        self.assertEqual((status, self.proxies.proxy("a"), self.relay.session_count), (500, first, 1))

    async def test_exchanged(self) -> None:
        """One request may move a proxy and give its address to another one."""
        await self.populate({"name": "a", "listen": "localhost:0"})
        listen = self.proxies.proxy("a")["listen"]
        made, text = await self.populate(
            {"name": "b", "listen": listen}, {"name": "a", "listen": f"127.0.0.1:{a_free_port()}"}
        )
        self.assertEqual((made, text, self.proxies.proxy("b")["listen"]), (["b", "a"], "", listen))
        for name in ("a", "b"):
            await self.conversation(self.proxies.proxy(name)["listen"])

    async def test_twice(self) -> None:
        """The last description of a name applies."""
        made, text = await self.populate(
            {"name": "a", "listen": "localhost:0"}, {"name": "a", "listen": "localhost:0", "enabled": False,
                                                     "upstream": "127.0.0.1:1"})  # fmt: skip
        self.assertEqual((made, text), (["a", "a"], ""))
        self.assertEqual((self.proxies.proxy("a")["enabled"], self.relay.addresses), (False, {}))

    async def test_work(self) -> None:
        """Each request is one reload, which prepares new rules only and looks for no plug-ins."""
        reloads: list[int] = []
        prepared: list[str] = []
        add, prepare = self.relay.add_rules, RuleMaker.prepare

        def added(rules: Sequence[Rule]) -> Deferred[ReloadResult]:
            reloads.append(len(rules))
            return add(rules)

        def noted(maker: RuleMaker, rule: Rule, before: Any = None) -> Any:
            prepared.append(rule.name)
            return prepare(maker, rule, before)

        self.patch(self.relay, "add_rules", added)
        self.patch(RuleMaker, "prepare", noted)
        self.patch(registry, "entry_points", lambda **_: self.fail("plug-ins were looked for"))
        await self.populate(*({"name": name, "listen": "localhost:0"} for name in "abcd"))
        await self.made("e")
        for name in "ab":
            await self.proxies.update(name, {"enabled": False})
        await self.proxies.update("c", {"upstream": self.target, "enabled": True})
        await self.proxies.reset()
        await self.proxies.reset()
        self.assertEqual(reloads, [4, 5, 4, 3, 5])
        self.assertEqual(prepared, ["a", "b", "c", "d", "e", "a", "b"])
        await self.conversation(self.proxies.proxy("e")["listen"])

    async def test_plain_words(self) -> None:
        """Errors have no places and no text of rules, which the client has not written."""
        used = f"127.0.0.1:{a_used_port(self)}"
        for fields in (
            {"listen": used},
            {"listen": "192.0.2.1:80"},
            {"upstream": "bad..name:1"},
            {"listen": "bad..name:1"},
        ):
            text, _ = await self.problem(self.made("b", **fields))
            for part in ("<rule>", "^", "\n", "toxiproxy proxy"):
                self.assertNotIn(part, text, fields)

    async def test_reset(self) -> None:
        """All are enabled, and no toxic is left."""
        await self.populate({"name": "a", "listen": "localhost:0", "toxics": [LATENCY]},
                            {"name": "b", "listen": "localhost:0", "enabled": False})  # fmt: skip
        await self.proxies.reset()
        self.assertEqual(sorted(self.relay.addresses), ["a", "b"])
        self.assertEqual(self.proxies.toxics("a"), [])


class ToxicTests(ProxiesCase):
    """Toxics of a proxy with an open connection."""

    async def test_life(self) -> None:
        """A toxic is there for an open connection as soon as the answer is; so is its end."""
        proxy = await self.made()
        client, server = await self.conversation(proxy["listen"])
        told = await self.proxies.add_toxic("a", LATENCY)
        self.assertEqual(told, self.proxies.toxic("a", "latency_downstream"))
        self.assertEqual(self.proxies.toxics("a"), [told])
        server.sendall(b"answer")
        await self.until(lambda: self.lives()[0].summary().to_client.reads == 1)
        changed = await self.proxies.change_toxic(
            "a", "latency_downstream", {"attributes": {"latency": 50_000}}
        )
        self.assertEqual(changed["attributes"], {"latency": 50_000, "jitter": 0})
        self.assertEqual(await self.in_thread(lambda: client.recv(100)), b"answer")
        server.sendall(b"again")
        await self.until(lambda: self.lives()[0].summary().to_client.reads == 2)
        await self.proxies.remove_toxic("a", "latency_downstream")
        self.assertEqual(await self.in_thread(lambda: client.recv(100)), b"again")
        self.assertEqual(self.proxies.toxics("a"), [])

    def lives(self) -> list[Any]:
        """The open sessions."""
        return [session for live in self.relay.every_rule for session in live.sessions.values()]

    async def test_reset_peer(self) -> None:
        """A connection that is open is reset."""
        proxy = await self.made()
        client, _ = await self.conversation(proxy["listen"])
        await self.proxies.add_toxic("a", {"type": "reset_peer", "attributes": {"timeout": 0}})
        with self.assertRaises(ConnectionResetError):
            await self.in_thread(lambda: client.recv(1))
        await self.until(lambda: bool(self.lines.closed_lines))
        self.assertIs(self.lines.closed_lines[0].reason, CloseReason.FILTER)

    async def test_cut_connection(self) -> None:
        """A rate of 0 cuts both streams, as tests with Testcontainers do; afterwards they continue."""
        proxy = await self.made()
        client, server = await self.conversation(proxy["listen"])
        for stream in ("downstream", "upstream"):
            told = await self.proxies.add_toxic(
                "a", {"name": stream, "type": "bandwidth", "stream": stream, "attributes": {"rate": 0}}
            )
            self.assertEqual(told["attributes"], {"rate": 0})
        (session,) = self.lives()
        for sock in (client, server):
            sock.sendall(b"x" * 100)
        await self.until(
            lambda: session.summary().to_client.reads == 1 == session.summary().to_upstream.reads - 1
        )
        for sock in (client, server):
            sock.setblocking(False)
            self.assertRaises(BlockingIOError, sock.recv, 1)
            sock.settimeout(TIMEOUT)
        await self.proxies.remove_toxic("a", "downstream")
        self.assertEqual(await self.in_thread(lambda: client.recv(1000)), b"x" * 100)
        await self.proxies.change_toxic("a", "upstream", {"attributes": {"rate": 1000}})
        self.assertEqual(await self.in_thread(lambda: server.recv(1000)), b"x" * 100)

    async def test_refused(self) -> None:
        """What cannot be is refused, with toxiproxy's words and codes."""
        await self.made()
        await self.proxies.add_toxic("a", LATENCY)
        for work, expected in (
            (self.proxies.add_toxic("a", LATENCY), ("toxic already exists", 409)),
            (self.proxies.add_toxic("a", {"type": "bandwidth", "attributes": {"rate": -1}}), (None, 400)),
            (self.proxies.add_toxic("x", LATENCY), ("proxy not found", 404)),
            (self.proxies.change_toxic("a", "x", {}), ("toxic not found", 404)),
            (
                self.proxies.change_toxic("a", "latency_downstream", {"attributes": {"jitter": "x"}}),
                (None, 400),
            ),
            (self.proxies.remove_toxic("a", "x"), ("toxic not found", 404)),
        ):
            text, status = await self.problem(work)
            self.assertEqual((expected[0] and text, status), expected)
        self.assertRaises(ToxiproxyError, self.proxies.toxic, "a", "x")
        self.assertEqual(self.proxies.toxic("a", "latency_downstream")["attributes"]["jitter"], 0)
