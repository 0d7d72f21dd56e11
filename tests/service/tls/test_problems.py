"""Tests of what ``portfwd check`` says of certificates."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Severity, StartError
from portfwd.filters import Factory, Side
from portfwd.rules import parse
from portfwd.service.build.build import live_rules
from portfwd.service.run.session_log import Silent
from portfwd.service.tls.problems import tls_problems
from tests.service.contexts import a_context
from tests.service.pems import (
    CA,
    OTHER_CA,
    directory_of,
    with_issuer_url,
    write_authority,
    write_crl,
    write_encrypted,
    write_pair,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: When everything has expired that trustme makes.
LATER = datetime(3100, 1, 1, tzinfo=UTC)


class ProblemTests(SynchronousTestCase):
    """`tls_problems`."""

    def setUp(self) -> None:
        """Good files."""
        self.directory = directory_of(self)
        self.cert, self.key = write_pair(self.directory, "a", CA.issue_cert("a.example"))
        self.ca = write_authority(self.directory)

    def found(self, text: str) -> list[tuple[str, str]]:
        """Code and place of each problem; the texts are kept."""
        problems = tls_problems(parse(text, "f"), now=lambda: NOW)
        self.texts = ["; ".join(filter(None, (one.message, one.hint))) for one in problems]
        return [(problem.code, str(problem.location)) for problem in problems]

    def test_good(self) -> None:
        """Nothing is wrong with these, and rules without TLS are not looked at."""
        self.assertEqual(
            self.found(
                f"tls::1 cert={self.cert} key={self.key} client-ca={self.ca} -> a:1\n"
                f":2 -> tls:b:2 ca={self.ca} client-cert={self.cert} client-key={self.key}\n"
                ":3 -> c:3\n"
            ),
            [],
        )

    def test_listeners(self) -> None:
        """What a listener cannot be started with has its place."""
        self.assertEqual(
            self.found(f"tls::1 -> a:1\ntls::2 cert={self.cert} -> a:1\ntls::3 cert=gone.pem -> a:1\n"),
            [("bad-tls", "f:1:1"), ("bad-tls", "f:2:8"), ("bad-tls", "f:3:8")],
        )
        self.assertIn("write cert=FILE", self.texts[0])
        self.assertIn("write key=FILE", self.texts[1])
        self.assertIn("gone.pem", self.texts[2])

    def test_targets(self) -> None:
        """So has what a target cannot be dialled with; what rules share is told once."""
        self.assertEqual(
            self.found(
                f"default ca={self.key}\n:1-2 -> tls:a:1-2\n:5 -> tls:b:1 client-cert=gone.pem ca={self.ca}\n"
            ),
            [("bad-tls", "f:1:9"), ("bad-tls", "f:3:15")],
        )
        self.assertIn("holds no PEM certificate", self.texts[0])

    def test_as_at_a_start(self) -> None:
        """A start that cannot be made ready says the same, with the same places."""
        fifo, open_log = self.directory / "fifo", self.directory / "keys"
        os.mkfifo(fifo)
        open_log.touch()
        open_log.chmod(0o644)
        loop = self.directory / "loop"
        loop.symlink_to(loop)
        pair = f"cert={self.cert} key={self.key}"
        for line in (
            "tls::1 -> b:1",
            f"tls::1 cert={self.cert} -> b:1",
            "tls::1 cert=gone.pem key=gone.key client-ca=gone.ca -> b:1",
            f"tls::1 cert={self.key} key={self.cert} -> b:1",
            f"tls::1 cert={fifo} key={self.key} -> b:1",
            f"tls::1 {pair} client-ca={fifo} -> b:1",
            f"tls::1 {pair} client-ca={self.key} -> b:1",
            f"tls::1 {pair} client-ca={self.ca} crl={self.cert} -> b:1",
            f"tls::1 {pair} key-password-file={fifo} -> b:1",
            f"tls::1 {pair} ciphers=NOTHING -> b:1",
            f"tls::1 {pair} curve=nothing -> b:1",
            f"tls::1 {pair} keylog={fifo} -> b:1",
            f"tls::1 {pair} keylog={open_log} -> b:1",
            f"tls::1 {pair} keylog=/nonexist/k -> b:1",
            f"tls::1 {pair} client-ca={self.ca} crl={self.ca} -> b:1",
            f"tls::1 {pair} crl={self.ca} -> b:1",
            f"127.0.0.1:1 -> tls:b:1 ca={self.ca} crl={self.ca}",
            f"tls::1 {pair} keylog=/proc/x -> b:1",
            f"tls::1 {pair} keylog={loop} -> b:1",
            f"tls::1 {pair} keylog={self.cert}/x -> b:1",
            f"tls::1 {pair} keylog={self.directory} -> b:1",
            "127.0.0.1:1 -> tls:b:1 ca=gone.pem client-cert=gone.cert",
            f"127.0.0.1:1 -> tls:b:1 ca={self.key}",
            f"127.0.0.1:1 -> tls:b:1 ca={fifo}",
            f"127.0.0.1:1 -> tls:b:1 client-cert={self.cert} client-key={self.cert}",
            f"127.0.0.1:1 -> tls:b:1 crl={self.cert}",
            "127.0.0.1:1 -> tls:b:1 ciphers=NOTHING",
        ):
            ruleset = parse(f"a: {line}\n", "f")
            problems = [
                one for one in tls_problems(ruleset, now=lambda: NOW) if one.severity is Severity.ERROR
            ]
            started = self.assertRaises(StartError, live_rules, ruleset, a_context(), Silent())
            self.assertEqual(
                list(started.failures),
                [f"a: {one.message} ({one.location}); {one.hint}" for one in problems],
                line,
            )
            self.assertTrue(all(one.hint for one in problems), line)

    def test_every_missing_file(self) -> None:
        """Each file that is not there gets an error at its option; so do files that were exchanged."""
        self.assertEqual(
            self.found("tls::1 cert=a.pem key=a.key client-ca=/none/ca.pem -> a:1\n"),
            [("bad-tls", "f:1:8"), ("bad-tls", "f:1:19"), ("bad-tls", "f:1:29")],
        )
        self.assertTrue(self.texts[1].startswith("key=a.key: No such file or directory; put the file there"))
        self.found(f"tls::1 cert={self.key} key={self.cert} -> a:1\n")
        self.assertIn("swap the two", self.texts[0])

    def test_expiry(self) -> None:
        """A certificate near its end is warned about, on both sides."""
        soon = CA.issue_cert("a.example", not_after=NOW + timedelta(days=3))
        cert, key = write_pair(self.directory, "soon", soon)
        self.assertEqual(
            self.found(
                f"tls::1 cert={cert} key={key} -> a:1\n"
                f":2 -> tls:b:1 ca={cert} client-cert={cert} client-key={key}\n"
            ),
            [("certificate-expires", "f:1:8"), ("certificate-expires", "f:2:7")],
        )
        self.assertIn("expires on 2026-01-04", self.texts[0])

    def test_chains(self) -> None:
        """Authorities, and intermediates that have expired, are missing or do not belong there."""
        child = CA.create_child_ca()
        leaf = child.issue_cert("a.example")
        good = [blob.bytes() for blob in leaf.cert_chain_pems]
        self.assertEqual(len(good), 2)
        secret = leaf.private_key_pem.bytes()
        for blobs, code, text in (
            (good, "", ""),
            ([good[0], OTHER_CA.cert_pem.bytes()], "chain-broken", "is not signed by the next one"),
            ([with_issuer_url(leaf)], "chain-incomplete", "is missing"),
        ):
            path = self.directory / "chain.pem"
            path.write_bytes(b"".join(blobs) + secret)
            path.chmod(0o600)
            found = self.found(f"tls::1 cert={path} -> a:1\n")
            self.assertEqual([one for one, _ in found], [code] if code else [])
            self.assertIn(text, "".join(self.texts))
        path.write_bytes(b"".join(good) + secret)
        texts = tls_problems(
            parse(f"tls::1 cert={path} client-ca={self.ca} -> a:1\n", "f"), now=lambda: LATER
        )
        self.assertEqual({one.code for one in texts}, {"certificate-expires"})
        said = "".join(one.message for one in texts)
        self.assertIn("the intermediate certificate 'OU=Testing CA", said)
        self.assertIn("ca.pem: the certificate expired", said)
        early = tls_problems(
            parse(f"tls::1 cert={path} -> a:1\n", "f"), now=lambda: datetime(1999, 1, 1, tzinfo=UTC)
        )
        self.assertIn("is not valid before", early[0].message)
        hint = "check the clock of this machine (1999-01-01 00:00 UTC), or wait until then"
        self.assertEqual({one.hint for one in early}, {hint})
        self.assertEqual({one.hint for one in texts}, {"renew it", "replace it with the authority's new one"})

    def test_filters(self) -> None:
        """TLS that a filter starts is looked at as TLS of an end is, at the place of its clause."""
        revoked = write_crl(self.directory, CA, until=NOW - timedelta(days=1))
        log = str(self.directory / "keys.log")
        server = {"cert": self.cert, "key": self.key, "client-ca": self.ca, "crl": revoked, "keylog": log}
        client = {"ca": self.ca, "client-cert": self.cert, "client-key": self.key}
        factory = Factory(lambda connection: None, starts_tls={Side.CLIENT: server, Side.UPSTREAM: client})
        ruleset = parse(":1 -> a:1\n    filter sni\n", "f")
        for clauses, codes in (
            ([("sni", factory)], ["list-expired", "session-secrets"]),
            ([], []),
        ):
            problems = tls_problems(ruleset, lambda rule, found=clauses: found, lambda: NOW)  # type: ignore[misc]
            self.assertEqual([one.code for one in problems], codes)
            self.assertTrue(all(str(one.location).startswith("f:2:") for one in problems), problems)

    def test_directory(self) -> None:
        """One bad file of a directory is a warning: the others are used."""
        directory = directory_of(self)
        write_pair(directory, "a", CA.issue_cert("a.example"))
        (directory / "b.pem").write_bytes(b"rubbish")
        self.assertEqual(self.found(f"tls::1 cert={directory} -> a:1\n"), [("bad-certificate", "f:1:8")])
        self.assertIn("b.pem", self.texts[0])

    def test_lists_and_passwords(self) -> None:
        """A revocation list that has ended is told, and a password that everybody can read."""
        path = write_crl(self.directory, CA, until=NOW)
        cert, key, password = write_encrypted(self.directory, "e", CA.issue_cert("a.example"))
        Path(password).chmod(0o644)
        self.assertEqual(
            self.found(
                f"tls::1 cert={cert} key={key} key-password-file={password}"
                f" client-ca={self.ca} crl={path} -> a:1\n"
                f":2 -> tls:b:1 ca={self.ca} crl={path} client-cert={cert} client-key={key}"
                f" client-key-password-file={password}\n"
            ),
            [
                ("list-expired", "f:1:" + str(self._column(cert, key, password))),
                ("key-exposed", "f:1:" + str(self._column(cert, key, None))),
                ("key-exposed", "f:2:7"),
                ("list-expired", "f:2:7"),
            ],
        )

    def _column(self, cert: str, key: str, password: str | None) -> int:
        text = f"tls::1 cert={cert} key={key} "
        if password is not None:
            text += f"key-password-file={password} client-ca={self.ca} "
        return len(text) + 1

    def test_secrets(self) -> None:
        """keylog= is warned about, and its file is not made."""
        path = self.directory / "keys"
        self.assertEqual(
            self.found(f"tls::1 cert={self.cert} key={self.key} keylog={path} -> a:1\n")[0][0],
            "session-secrets",
        )
        self.assertFalse(path.exists())

    def test_secrets_without_directory(self) -> None:
        """The remedy for a keylog without a directory is to make the directory: a start makes the file."""
        text = f"a: tls::1 cert={self.cert} key={self.key} keylog=/none/k -> a:1\n"
        problem = tls_problems(parse(text, "f"), now=lambda: NOW)[0]
        self.assertEqual(problem.message, "keylog=/none/k: No such file or directory")
        self.assertIn("make the directory '/none'", problem.hint)

    def test_option_of_a_problem(self) -> None:
        """If options name one file, the problem is at the option for which the file was read."""
        pair = f"cert={self.cert} key={self.key}"
        for line, option in (
            (f"tls::1 {pair} client-ca={self.ca} crl={self.ca} -> a:1", "crl="),
            (f"tls::1 {pair} client-name=x -> a:1", "client-name="),
            (f"tls::1 {pair} verify-client=optional -> a:1", "verify-client="),
            (f"tls::1 {pair} crl={self.ca} -> a:1", "crl="),
            (f":1 -> tls:a:1 ca={self.ca} crl={self.ca}", "crl="),
            (f":1 -> tls:a:1 ca={self.ca} client-cert={self.ca}", "client-cert="),
        ):
            self.assertEqual(self.found(line + "\n"), [("bad-tls", f"f:1:{line.index(option) + 1}")], line)

    def test_open_secrets(self) -> None:
        """A keylog that others can read is an error, as at a start; one of our own alone is none."""
        path = self.directory / "keys"
        path.touch()
        text = f"tls::1 cert={self.cert} key={self.key} keylog={path} -> a:1\n"
        for mode, codes in ((0o640, ["bad-tls", "session-secrets"]), (0o600, ["session-secrets"])):
            path.chmod(mode)
            self.assertEqual([code for code, _ in self.found(text)], codes)

    def test_exposed_key(self) -> None:
        """A key that everybody can read is warned about, on both sides; one for a group is not."""
        text = (
            f"tls::1 cert={self.cert} key={self.key} -> a:1\n"
            f":2 -> tls:b:1 client-cert={self.cert} client-key={self.key}\n"
        )
        Path(self.key).chmod(0o644)
        self.assertEqual(self.found(text), [("key-exposed", "f:1:8"), ("key-exposed", "f:2:7")])
        self.assertIn(f"{self.key}: every user", self.texts[0])
        Path(self.key).chmod(0o640)
        self.assertEqual(self.found(text), [])
