"""Tests of `portfwd.admin.shapes`: answers are as their schemas say."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import shapes
from portfwd.admin.commands import COMMANDS, serve
from portfwd.admin.requests import read_request
from portfwd.values import TO_CLIENT
from tests.admin.fakes import Client, FakeOperator, FakeSession

#: One request for each command.
REQUESTS = {
    "session": "session 1",
    "explain": "explain 192.0.2.1 :80",
    "target": "target web 10.0.0.5:80 drain",
    "tap": "tap 1 limit=1",
    "kill": "kill 1",
    "drain": "drain web",
    "pause": "pause web",
    "resume": "resume web",
    "top": "top count=1",
}


class ShapeTests(SynchronousTestCase):
    """Schemas and answers."""

    def check(self, value: object, schema: Any, name: str) -> None:
        """What is said is what the schema has."""
        Draft202012Validator.check_schema(schema)
        wrong = [error.message for error in Draft202012Validator(schema).iter_errors(value)]
        self.assertEqual(wrong, [], name)

    def test_answers(self) -> None:
        """The answer of each command, and its events, are as the table of commands says."""
        for command in COMMANDS.values():
            operator = FakeOperator(FakeSession(1))
            client = Client(operator)
            request = read_request(REQUESTS.get(command.name, command.name).encode())
            assert request is not None
            serving = Deferred.fromCoroutine(serve(client.caller, request))
            if operator.saw is not None:
                operator.saw(TO_CLIENT, b"x")
            for _ in range(6):
                client.clock.advance(0.1)
            result = self.successResultOf(serving)
            if command.name != "status":  # the fake's has one key
                self.check(result, command.result, command.name)
            self.assertEqual(bool(client.events), command.event is not None, command.name)
            for event in client.events:
                event = {**event, "status": None} if command.name == "top" else event
                schema: Any = command.event
                if command.name == "top":
                    schema = {**schema, "properties": {**schema["properties"], "status": {}}}
                self.check(event, schema, command.name)

    def test_missing(self) -> None:
        """A key that is missing, or is of another type, shows."""
        validator = Draft202012Validator(shapes.KILLED)
        self.assertFalse(validator.is_valid({}))
        self.assertFalse(validator.is_valid({"killed": "1"}))
        self.assertTrue(validator.is_valid({"killed": 1, "more": 2}))
        self.assertTrue(Draft202012Validator(shapes.maybe(shapes.TEXT)).is_valid(None))
