"""Tests of `portfwd.admin.web.openapi`: the description of the API."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS
from portfwd.admin.web.openapi import STATUSES, describe


class DescriptionTests(SynchronousTestCase):
    """The whole of it; `tests.integration.test_web_api` compares it with what is answered."""

    def setUp(self) -> None:
        self.description = describe("1.2.3")
        self.paths = self.description["paths"]

    def test_resources(self) -> None:
        """Each command is a resource, with the methods by which it is asked for."""
        names = {path.removeprefix("/api/v1/").partition("/")[0] for path in self.paths}
        self.assertEqual(names, {"", "openapi.json", *COMMANDS})
        self.assertEqual(sorted(self.paths["/api/v1/session/{id}"]), ["get", "head"])
        self.assertEqual(sorted(self.paths["/api/v1/kill"]), ["post"])
        self.assertEqual(self.description["info"]["version"], "1.2.3")
        json.dumps(self.description)

    def test_parameters(self) -> None:
        """Parameters are described where they stand, with what they may be."""
        (number,) = self.paths["/api/v1/session/{id}"]["get"]["parameters"]
        self.assertEqual((number["name"], number["in"], number["required"]), ("id", "path", True))
        found = {one["name"]: one["schema"] for one in self.paths["/api/v1/rules"]["get"]["parameters"]}
        self.assertEqual(found["limit"], {"type": "integer", "minimum": 1, "maximum": 500})
        self.assertNotIn("parameters", self.paths["/api/v1/kill"]["post"])
        needed = [
            one["name"] for one in self.paths["/api/v1/explain"]["get"]["parameters"] if one["required"]
        ]
        self.assertEqual(needed, ["client", "listen"])

    def test_bodies(self) -> None:
        """A POST's body is an object of its parameters, and says which must be there."""
        body = self.paths["/api/v1/kill"]["post"]["requestBody"]
        schema = body["content"]["application/json"]["schema"]
        self.assertEqual(schema["properties"]["id"]["type"], "array")
        self.assertFalse(body["required"])
        body = self.paths["/api/v1/log-level"]["post"]["requestBody"]
        self.assertEqual(body["content"]["application/json"]["schema"]["required"], ["level"])
        self.assertTrue(body["required"])

    def test_levels_and_streams(self) -> None:
        """What takes an operator says so, and what goes on is a stream of events."""
        self.assertEqual(self.paths["/api/v1/tap/{id}"]["get"]["x-level"], "operator")
        self.assertNotIn("x-level", self.paths["/api/v1/faults"]["get"])
        self.assertEqual(self.paths["/api/v1/faults"]["post"]["x-level"], "operator")
        top = self.paths["/api/v1/top"]["get"]["responses"]["200"]["content"]
        self.assertEqual(list(top), ["text/event-stream"])
        self.assertNotIn("content", self.paths["/api/v1/status"]["head"]["responses"]["200"])

    def test_statuses(self) -> None:
        """Each code has a status that is an error."""
        self.assertTrue(all(400 <= status < 600 for status in STATUSES.values()))
