"""Tests of `portfwd.upstreams.checks.scram`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.checks.scram import Scram, ScramError


class ScramTests(SynchronousTestCase):
    """The client's side."""

    def test_exchange(self) -> None:
        """The example of RFC 7677 section 3, with the empty name that PostgreSQL wants."""
        scram = Scram("pencil", "rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(scram.first(), b"n,,n=,r=rOprNGfwEbeRWgbNEkqO")
        scram._bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
        nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        final = scram.final(f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
        self.assertEqual(final, f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode())
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        self.assertRaises(ScramError, scram.verify, b"v=AAAA")

    def test_wrong(self) -> None:
        """A message of another shape, another nonce, and too many iterations are refused."""
        for message in (
            b"",
            b"r=x,s=AAAA,i=1",
            b"r=nx,s=AAAA,i=0",
            b"r=nx,s=AAAA,i=99999",
            b"r=nx,s=!,i=x",
            b"\xff",
        ):
            self.assertRaises(ScramError, Scram("p", "n").final, message)
