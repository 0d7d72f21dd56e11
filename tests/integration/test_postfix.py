"""``starttls-smtp`` between swaks and Postfix, where both are installed by hand."""

from __future__ import annotations

import os
import shutil
from functools import partial

from twisted.trial import unittest

from tests.integration.forwarder import is_listening
from tests.integration.programs import Program, run
from tests.integration.test_starttls import StartTLSCase
from tests.ports import free_port

MASTER = "/usr/lib/postfix/sbin/master"

MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/mail.log
maillog_file_prefixes = /
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.example
mydestination = example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
local_transport = discard:
smtpd_recipient_restrictions = permit
smtpd_tls_security_level = {level}
smtpd_tls_chain_files = {pem}
smtpd_tls_received_header = yes
"""

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
"""


class PostfixTests(StartTLSCase):
    """The server that most mail goes through, and the client that its operators test it with."""

    def setUp(self) -> None:
        """Look for the programs."""
        if shutil.which("swaks") is None or not os.path.exists(MASTER):
            raise unittest.SkipTest("postfix or swaks is not installed")
        if os.geteuid() != 0:
            raise unittest.SkipTest("Postfix is started by root only")
        super().setUp()

    def start_postfix(self, level: str) -> int:
        """
        A Postfix that takes mail and throws it away.

        :param level: of its TLS.
        :returns: its port.
        """
        home, port = self.directory / f"postfix-{level}", free_port()
        self.directory.chmod(0o755)
        for name in (home, home / "queue", home / "data"):
            name.mkdir()
        shutil.chown(home / "data", "postfix")
        main = MAIN.format(home=home, level=level, pem=self.pem("db.example"))
        (home / "main.cf").write_text(main)
        (home / "master.cf").write_text(SERVICES.format(port=port))
        run("postfix", "-c", str(home), "check", check=False)
        program = Program([MASTER, "-c", str(home), "-d"], home / "master.log")
        self.addCleanup(program.clean_up)
        program.wait_until(partial(is_listening, port), f"port {port}")
        return port

    def swaks(self, port: int, *more: str) -> str:
        """The conversation of one mail."""
        words = ["--server", "127.0.0.1", "--port", str(port), "--from", "a@me.example", "--to", "b@example"]
        done = run("swaks", *words, "--ehlo", "me.example", *more, check=False)
        return done.stdout.decode() + done.stderr.decode()

    def test_terminate(self) -> None:
        """swaks verifies the forwarder's certificate, and Postfix gets plain bytes."""
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{self.start_postfix('none')} retry=20s\n"
            f"    filter starttls-smtp terminate cert={self.pem('localhost')} require=on\n"
        )
        said = self.swaks(forwarder.port("r"), "--tls", "--tls-ca-path", str(self.ca), "--tls-verify")
        self.assertIn("CN=localhost", said)
        self.assertIn("<~  250 2.0.0 Ok: queued", said)
        self.assertNotIn("queued", self.swaks(forwarder.port("r")))

    def test_originate(self) -> None:
        """Postfix wants TLS, which begins here; swaks knows nothing of it."""
        port = self.start_postfix("encrypt")
        forwarder = self.forwarder(
            f"r: 127.0.0.1:0 -> 127.0.0.1:{port} retry=20s\n"
            f"    filter starttls-smtp originate ca={self.ca} server-name=db.example\n"
        )
        self.assertIn("Must issue a STARTTLS command first", self.swaks(port))
        self.assertIn("<-  250 2.0.0 Ok: queued", self.swaks(forwarder.port("r")))
