"""Tests of the contract of checks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.checks.api import WAIT, Check, CheckConversation, Subject, said


class ContractTests(SynchronousTestCase):
    """What a plug-in has that says nothing else."""

    def test_defaults(self) -> None:
        """It passes when the target is connected, ignores what comes, and fails at an end."""
        conversation = Check().begin(Subject("x"))
        self.assertIsInstance(conversation, CheckConversation)
        opened, ended = conversation.opened().verdict, conversation.ended().verdict
        assert opened is not None
        assert ended is not None
        self.assertEqual((opened.passed, ended.passed), (True, False))
        self.assertEqual(conversation.received(b"x"), WAIT)
        self.assertRaises(NotImplementedError, Check().arguments, Subject("x"))
        self.assertRaises(NotImplementedError, Check().exited, 0, b"")

    def test_said(self) -> None:
        """What a server says is cut and cannot break a line."""
        self.assertEqual(said(b"a\r\nb\xff"), "a??b\ufffd")
        self.assertEqual(len(said(b"x" * 1000)), 80)
