"""Tests of `portfwd.admin.web.site`: what is where, who gets it, and its headers."""

from __future__ import annotations

import re
from importlib.resources import files

from twisted.web.resource import Resource

from portfwd.admin.web.access import Access
from portfwd.admin.web.site import PAGE, WebRoot
from portfwd.extras import how_to_install
from portfwd.rules.admin_lines import Level
from tests.admin.web.asking import TOKEN, WebCase


class SiteTests(WebCase):
    """All of the site."""

    def test_page(self) -> None:
        """The page and its files are there, with their types and a policy that runs nothing else."""
        for path, (_, kind) in PAGE.items():
            answered = self.get(f"/{path.decode()}")
            self.assertEqual((answered.status, answered.headers["content-type"]), (200, kind))
            policy = answered.headers["content-security-policy"]
            self.assertTrue(policy.startswith("default-src 'none'; script-src 'self';"), policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(answered.headers["x-content-type-options"], "nosniff")
            self.assertEqual(answered.headers["server"], "portfwd")

    def test_nothing_from_elsewhere(self) -> None:
        """No file of the page names another place, and none makes markup of text."""
        for name, _ in PAGE.values():
            text = files("portfwd.admin.web").joinpath("page", name).read_text("utf-8")
            text = text.replace("http://www.w3.org/2000/svg", "")
            for word in (
                "http:",
                "https:",
                "//cdn",
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
            ):
                self.assertNotIn(word, text, name)
        page = files("portfwd.admin.web").joinpath("page", "page.html").read_text("utf-8")
        self.assertNotRegex(page, r"(?i)<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=")

    def test_health(self) -> None:
        """Health is told as by the 'metrics' line."""
        self.assertEqual(self.get("/healthz").body, b"ok\n")
        self.assertEqual((self.get("/readyz").status, self.get("/readyz").body), (200, b"ready\n"))
        self.ready = False
        self.assertEqual(self.get("/readyz").status, 503)

    def test_metrics(self) -> None:
        """Where prometheus-client is not installed, the page says so; else it is the given one."""
        self.assertEqual(self.get("/metrics").status, 501)
        self.assertIn(how_to_install("metrics").encode(), self.get("/metrics").body)
        added: list[Resource] = []
        root = WebRoot(self.context, lambda: True, added.append)
        self.assertEqual(added, [root])

    def test_nothing(self) -> None:
        """There is nothing else."""
        for path in ("/nothing", "/../rules.conf", "/api/v2/status", "/.."):
            self.assertEqual(self.get(path).status, 404, path)
        self.assertEqual(self.post("/", {}).status, 405)

    def test_host(self) -> None:
        """No path is served to who means another host."""
        for path in ("/", "/metrics", "/healthz", "/api/v1/status"):
            answered = self.get(path, {"host": "evil.example"})
            self.assertEqual((answered.status, answered.json["error"]), (421, "bad-host"), path)

    def test_origin(self) -> None:
        """What tells of traffic is not for pages of other origins; the page itself can be linked to."""
        foreign = {"origin": "http://evil.example"}
        for path in ("/metrics", "/api/v1/status", "/api/v1/openapi.json"):
            self.assertEqual(self.get(path, foreign).status, 403)
            self.assertEqual(self.get(path, {"sec-fetch-site": "cross-site"}).status, 403)
        self.assertEqual(self.post("/api/v1/kill", {"id": [1]}, foreign).json["error"], "bad-origin")
        self.assertIsNone(self.operator.open[0].killed)
        self.assertEqual(self.get("/", {"sec-fetch-site": "cross-site"}).status, 200)
        own = {"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}
        self.assertEqual(self.post("/api/v1/kill", {"id": [1]}, own).status, 200)

    def test_token(self) -> None:
        """With a token, what tells of traffic needs it; health and the page's files do not."""
        self.access = Access(Level.OPERATOR, frozenset(), TOKEN)
        for path in ("/metrics", "/api/v1/status", "/api/v1/", "/api/v1/openapi.json"):
            answered = self.get(path)
            self.assertEqual(
                (answered.status, answered.headers["www-authenticate"]), (401, 'Bearer realm="portfwd"')
            )
        bearer = {"authorization": f"Bearer {TOKEN.decode()}"}
        self.assertEqual(self.get("/api/v1/status", bearer).status, 200)
        self.assertEqual(self.post("/api/v1/pause", {"rule": "web"}).status, 401)
        self.assertEqual(self.post("/api/v1/pause", {"rule": "web"}, bearer).status, 200)
        for path in ("/", "/page.js", "/healthz", "/readyz"):
            self.assertEqual(self.get(path).status, 200)
        self.assertEqual(self.get("/access.json").json, {"token": True})
        self.access = Access(Level.READ)
        self.assertEqual(self.get("/access.json").json, {"token": False})

    def test_policy_is_one_line(self) -> None:
        """Headers have no line ends."""
        for value in self.get("/").headers.values():
            self.assertIsNone(re.search(r"[\r\n]", value))
