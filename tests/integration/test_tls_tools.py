"""
``tls:`` listeners under tools that test TLS: sslyze, testssl.sh and tlsfuzzer, in the deep profile only.

What they say of nginx and HAProxy is in ``docs/explanation/tls.md``. sslyze and tlsfuzzer are in a virtual
environment of their own, since they want other versions of what portfwd wants too. `TOOLS` names it::

    python3 -m venv ~/tls-tools
    ~/tls-tools/bin/pip install sslyze tlslite-ng==0.9.0b2
    git clone https://github.com/tlsfuzzer/tlsfuzzer ~/tls-tools/tlsfuzzer
    apt-get install testssl.sh
    PORTFWD_TESTS=deep PORTFWD_TLS_TOOLS=~/tls-tools trial tests.integration.test_tls_tools
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import trustme
from twisted.trial import unittest

from tests.integration.case import ForwarderCase, needs_deep
from tests.integration.forwarder import Forwarder
from tests.integration.programs import needs, run
from tests.integration.servers import start_nginx
from tests.ports import free_port
from tests.service.pems import write_authority, write_pair

#: The variable that names the virtual environment.
TOOLS: Final = "PORTFWD_TLS_TOOLS"

#: Seconds that a tool may take on a machine that has other work.
TIMEOUT: Final = 500.0

#: What sslyze says of certificates: they are the operator's, and here those of trustme, valid since 2000.
CERTIFICATES: Final = ("* certificate_path_validation:", "* maximum_certificate_lifespan:")

#: What testssl.sh says of the OpenSSL that it was given itself.
ABOUT_ITSELF: Final = frozenset({"engine_problem"})

#: Curves beyond Mozilla's intermediate list: Python cannot switch them off, and they are no weaker.
MORE_CURVES: Final = frozenset({"X448", "secp521r1"})

#: Scripts of tlsfuzzer whose every conversation goes as they want, and what they are told: ``-d`` is for
#: servers without RSA key exchange.
SCRIPTS: Final = (
    ("test-conversation.py", "-d"),
    ("test-tls13-conversation.py",),
    ("test-aes-gcm-nonces.py", "-d"),
    ("test-ccs.py", "-d"),
    ("test-connection-abort.py", "-d"),
    ("test-cve-2004-0079.py",),
    ("test-cve-2016-6309.py", "-d"),
    ("test-early-application-data.py", "-d"),
    ("test-fuzzed-MAC.py", "-d"),
    ("test-invalid-client-hello-w-record-overflow.py", "-d"),
    ("test-invalid-content-type.py", "-d"),
    ("test-message-skipping.py", "-d"),
    ("test-renegotiation-disabled.py", "-d"),
    ("test-resumption-with-wrong-ciphers.py", "-d"),
    ("test-sessionID-resumption.py", "-d"),
    ("test-ssl-death-alert.py", "-d"),
    ("test-tls13-0rtt-garbage.py",),
    ("test-tls13-ccs.py",),
)


def tools() -> Path:
    """The virtual environment of the tools."""
    if TOOLS not in os.environ:
        raise unittest.SkipTest(f"needs {TOOLS}, a virtual environment with sslyze and tlsfuzzer")
    return Path(os.environ[TOOLS])


class ToolTests(ForwarderCase):
    """Each tool against a listener with an RSA and an ECDSA certificate, before an HTTP server."""

    def setUp(self) -> None:
        """The upstream and the certificates."""
        super().setUp()
        needs_deep()
        self.upstream = free_port()
        www = start_nginx(self, [self.upstream], f"server {{ listen 127.0.0.1:{self.upstream}; }}")
        (www / "index.html").write_text("hello\n")
        # tlsfuzzer's clients do not say that they know signatures by ECDSA.
        self.authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self.ca = write_authority(self.directory, self.authority)
        self.certificates = self.directory / "certificates"
        self.certificates.mkdir()
        for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
            leaf = self.authority.issue_cert("localhost", "127.0.0.1", key_type=kind)
            write_pair(self.certificates, kind.name.lower(), leaf)

    def start(self, options: str = "", cert: str = "") -> Forwarder:
        """A forwarder with a rule ``web``."""
        listener = f"tls:127.0.0.1:0 cert={self.certificates / cert} {options}"
        return self.forwarder(f"web: {listener} -> 127.0.0.1:{self.upstream}\n")

    def test_sslyze(self) -> None:
        """Mozilla's intermediate profile, but for two curves more."""
        sslyze = tools() / "bin" / "sslyze"
        if not sslyze.exists():
            raise unittest.SkipTest(f"needs {sslyze}")
        port = self.start().port("web")
        done = run(
            str(sslyze), "--mozilla_config=intermediate", "--certinfo_ca_file", self.ca, f"localhost:{port}",
            seconds=TIMEOUT, check=False,
        )  # fmt: skip
        said = done.stdout.decode()
        _, _, compliance = said.partition("COMPLIANCE AGAINST")
        lines = [line.strip() for line in compliance.splitlines()]
        found = [line for line in lines if line.startswith("*") and not line.startswith(CERTIFICATES)]
        self.assertTrue(compliance, f"{said} {done.stderr!r}")
        self.assertEqual(len(found), 1, compliance)
        self.assertTrue(found[0].startswith("* tls_curves:"), compliance)
        named = {word.strip("'{}, ") for word in found[0].partition("{")[2].partition("}")[0].split()}
        self.assertLessEqual(named, MORE_CURVES)

    def test_testssl(self) -> None:
        """Versions, kinds of ciphers and known weaknesses: nothing that testssl.sh would mend."""
        testssl = needs("testssl")
        port = self.start().port("web")
        found = self.directory / "found.json"
        run(
            testssl, "--warnings", "off", "--color", "0", "--quiet", "--nodns", "none", "--add-ca", self.ca,
            "--jsonfile", str(found), "-p", "-s", "-H", "-I", "-T", "-R", "-C", "-Z", "-F", "-W", "-D",
            f"localhost:{port}", seconds=TIMEOUT, check=False,
        )  # fmt: skip
        said = json.loads(found.read_text())
        bad = [one for one in said if one["severity"] not in {"OK", "INFO"} and one["id"] not in ABOUT_ITSELF]
        self.assertEqual(bad, [])
        protocols = {one["id"]: one["finding"] for one in said}
        for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertIn("not offered", protocols[old])

    def test_tlsfuzzer(self) -> None:
        """Broken, repeated, missing and unexpected messages are answered as the standards say."""
        where = tools() / "tlsfuzzer"
        if not where.exists():
            raise unittest.SkipTest(f"needs {where}, a clone of tlsfuzzer")
        # Many scripts insist on ciphers that are not offered by default.
        port = self.start(
            "ciphers=HIGH:!aNULL:!eNULL key=" + str(self.certificates / "rsa.key"), "rsa.pem"
        ).port("web")
        failed = {}
        for script, *arguments in SCRIPTS:
            done = run(
                str(tools() / "bin" / "python"), str(where / "scripts" / script), "-h", "127.0.0.1",
                "-p", str(port), *arguments, seconds=TIMEOUT, check=False,
                environment={"PYTHONPATH": str(where)},
            )  # fmt: skip
            if done.returncode:
                failed[script] = (done.stdout + done.stderr).decode()[-1500:]
        self.assertEqual(sorted(failed), [], "\n".join(failed.values()))
