"""Tests of the check ``agent``."""

from __future__ import annotations

from portfwd.upstreams.checks.agent import MAX_LINE
from portfwd.upstreams.checks.bounded import BoundedConversation
from portfwd.upstreams.health import Verdict
from tests.upstreams.checks.talking import SUBJECT, CheckCase, check


class AgentTests(CheckCase):
    """Words of agents."""

    def test_words(self) -> None:
        """HAProxy's words; of several the one that keeps sessions away counts."""
        for line, verdict in (
            (b"up\n", Verdict(True, "up")),
            (b"ready up 50%\r\n", Verdict(True, "ready up 50%", share=0.5)),
            (b"75%\n", Verdict(True, "75%", share=0.75)),
            (b"300%\n", Verdict(True, "300%", share=1.0)),
            (b"DRAIN\n", Verdict(True, "DRAIN", drain=True)),
            (b"up,drain\n", Verdict(True, "up,drain", drain=True)),
            (b"down # the disk is full\n", Verdict(False, "down # the disk is full")),
            (b"maint\n", Verdict(False, "maint")),
            (b"up stopped\n", Verdict(False, "up stopped")),
        ):
            _, last = self.say(check("agent").begin(SUBJECT), line)
            self.assertEqual(last.verdict, verdict)
            self.judge(check("agent"), line)

    def test_end(self) -> None:
        """The line may end with the connection."""
        self.assertEqual(self.judge(check("agent"), b"drain", None, sent=[]), (True, "drain"))

    def test_silent(self) -> None:
        """An agent that says nothing that is known changes nothing, as one that cannot be reached."""
        for events in ((None,), (b"\n",), (b"maxconn:30\n",)):
            self.assertEqual(self.judge(check("agent"), *events), (None, "silent"))
        _, last = self.say(check("agent").begin(SUBJECT), b"garbage\n")
        self.assertEqual(last.cause, "no known word in the answer 'garbage'")
        self.assertTrue(check("agent").silent)
        self.assertTrue(check("agent").at_once)

    def test_endless(self) -> None:
        """An endless line changes nothing."""
        conversation = BoundedConversation(made := check("agent"), made.begin(SUBJECT))
        conversation.opened()
        reply = conversation.received(b"z" * (MAX_LINE + 1))
        self.assertEqual((reply.silent, reply.cause), (True, f"no line within {MAX_LINE} bytes"))
