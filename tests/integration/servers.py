"""
Servers that several test modules start: nginx, HAProxy, sshd, redis, PostgreSQL, each configured by the test.

Each is in the foreground, ends with its test, and is ready when it listens. Nobody connects to find that out:
a proxy would pass the connection on.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trustme
from twisted.trial import unittest

from bench.peers.api import AbsentError
from bench.peers.nginx import stream_module
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import is_listening
from tests.integration.programs import Program, needs, run
from tests.ports import free_port

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
"""
NGINX_HTTP = """
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    root {directory}/www;
{servers}
}}
"""
HAPROXY = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
"""
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""


def start_nginx(case: ForwarderCase, ports: Sequence[int], servers: str, streams: str = "") -> Path:
    """
    An nginx.

    :param ports: where it is going to listen.
    :param servers: ``server`` blocks of its ``http``.
    :param streams: the same of its ``stream``.
    :returns: the folder of its files; its workers may run as another user.
    """
    nginx = needs("nginx")
    configuration = NGINX.format(directory=case.directory)
    if streams:
        try:
            configuration = stream_module() + configuration
        except AbsentError as error:
            raise unittest.SkipTest(f"needs libnginx-mod-stream: {error}") from None
        configuration += f"stream {{\n{streams}\n}}\n"
    configuration += NGINX_HTTP.format(directory=case.directory, servers=servers)
    folder = case.directory / "www"
    folder.mkdir()
    case.directory.chmod(0o755)
    file = case.directory / "nginx.conf"
    file.write_text(configuration)
    _start(case, [nginx, "-p", str(case.directory), "-c", str(file)], "nginx", ports)
    return folder


def start_haproxy(case: ForwarderCase, ports: Sequence[int], sections: str) -> None:
    """
    A HAProxy.

    :param ports: where it is going to listen.
    :param sections: of its configuration, behind ``defaults``.
    """
    file = case.directory / "haproxy.cfg"
    file.write_text(HAPROXY + sections)
    _start(case, [needs("haproxy"), "-db", "-f", str(file)], "haproxy", ports)


def start_sshd(case: ForwarderCase) -> tuple[int, list[str]]:
    """
    An OpenSSH server with a key of its own.

    :returns: its port, and the options with which ``ssh`` and ``scp`` may come in as this user.
    """
    # It re-executes itself, so it wants the absolute path.
    server, keygen = needs("sshd"), needs("ssh-keygen")
    for name in ("host", "user"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(case.directory / name))
    if os.geteuid() == 0:
        # Debian's service makes it when it starts; as root the server does not run without.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    configuration = case.directory / "sshd_config"
    configuration.write_text(SSHD.format(port=port, directory=case.directory))
    _start(case, [server, "-D", "-e", "-f", str(configuration)], "sshd", [port])
    return port, [
        "-F", "none", "-i", str(case.directory / "user"), "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
        "-o", f"User={getpass.getuser()}",
    ]  # fmt: skip


def start_redis(case: ForwarderCase, name: str = "redis") -> Path:
    """
    A redis server.

    :returns: its unix socket.
    """
    socket = case.directory / f"{name}.sock"
    server = Program(
        [
            needs("redis-server"), "--port", "0", "--unixsocket", str(socket), "--save", "",
            "--dir", str(case.directory),
        ],
        case.directory / f"{name}.log",
    )  # fmt: skip
    case.addCleanup(server.clean_up)
    server.wait_until(socket.exists, "the socket")
    return socket


def start_postgresql(case: ForwarderCase, certificate: str = "") -> int:
    """
    A PostgreSQL server with a cluster of its own, whose user ``tester`` needs no password.

    :param certificate: the name of one of `write_certificates`; with it the server speaks TLS, and only TLS.
    :returns: its port.
    """
    initdb, server, user = needs("initdb"), needs("postgres"), unprivileged_user()
    home = case.directory / f"pg{certificate}"
    home.mkdir()
    case.directory.chmod(0o755)
    if user is not None:
        shutil.chown(home, user)
    data = home / "data"
    setup = Program(
        [initdb, "-D", str(data), "-U", "tester", "-A", "trust", "-N", "--no-instructions"],
        home / "initdb.log",
        user=user,
    )
    case.addCleanup(setup.clean_up)
    case.assertEqual(setup.wait(), 0, (home / "initdb.log").read_text())
    secure: list[str] = []
    if certificate:
        pair = Path(shutil.copy(case.directory / f"{certificate}.pem", home / "tls.pem"))
        pair.chmod(0o600)
        if user is not None:
            shutil.chown(pair, user)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        secure = ["-c", "ssl=on", "-c", f"ssl_cert_file={pair}", "-c", f"ssl_key_file={pair}"]
    port = free_port()
    program = Program(
        [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(home), "-F", *secure],
        home / "postgres.log",
        user=user,
    )
    case.addCleanup(program.clean_up)
    program.wait_until(lambda: "ready to accept" in program.log.read_text(), "the server")
    return port


def start_dnsmasq(case: ForwarderCase, port: int, *options: str) -> Program:
    """
    A dnsmasq that knows only what `options` say, over UDP and TCP.

    :param port: of 127.0.0.1.
    """
    common = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file="
    common += f" --listen-address=127.0.0.1 --bind-interfaces --port={port}"
    return _start(case, [needs("dnsmasq"), *common.split(), *options], f"dnsmasq{port}", [port])


def start_smtp(
    case: ForwarderCase, mails: list[tuple[str, bytes]], context: ssl.SSLContext | None = None
) -> int:
    """
    An aiosmtpd.

    :param mails: gets how each mail came (``tls`` or ``plain``), and its text.
    :param context: its TLS, which it then requires behind STARTTLS.
    :returns: its port.
    """
    try:
        from aiosmtpd.controller import Controller
    except ImportError:
        raise unittest.SkipTest("needs aiosmtpd") from None

    class Handling:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mails.append(((session.ssl and "tls") or "plain", envelope.content))
            return "250 OK"

    controller = Controller(
        Handling(),
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=context is not None,
    )
    controller.start()
    case.addCleanup(controller.stop)
    return int(controller.port)


def unprivileged_user() -> str | None:
    """Whom the server may run as: it refuses root. None: whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise unittest.SkipTest("needs a user that is not root")


def write_certificates(case: ForwarderCase, *names: str) -> None:
    """For each name a file ``NAME.pem``, key and certificate, and ``ca.pem`` of the authority of them all."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(case.directory / "ca.pem"))
    for name in names:
        authority.issue_cert(name, common_name=name).private_key_and_cert_chain_pem.write_to_path(
            str(case.directory / f"{name}.pem")
        )


def _start(case: ForwarderCase, command: Sequence[str], name: str, ports: Sequence[int]) -> Program:
    program = Program(command, case.directory / f"{name}.log")
    case.addCleanup(program.clean_up)
    for port in ports:
        program.wait_until(partial(is_listening, port), f"port {port}")
    return program
