# -*- test-case-name: tests.bench.test_tls -*-
"""
Contestants that end TLS, or begin it: portfwd, nginx and HAProxy, each with one worker.

All show the same kind of certificate (an ECDSA key on P-256, made for the run) and resume nothing. Those that
begin TLS check nothing: the lab's servers are strangers to everybody.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import ClassVar, Final

from bench.peers.api import Setup, said_by
from bench.peers.haproxy import HAProxy
from bench.peers.nginx import Nginx
from bench.peers.portfwd import Portfwd

#: Groups of rows: TLS is ended there, or begun.
IN: Final = "tls-in"
OUT: Final = "tls-out"


def make_certificate(folder: Path) -> tuple[str, str]:
    """
    A certificate of its own authority and its key, as files; ``both.pem`` beside them has the two.

    :raises AbsentError: if there is no openssl.
    """
    said_by(["openssl", "version"])
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", str(key), "-out", str(cert), "-days", "30", "-subj", "/CN=lab"],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        both = folder / "both.pem"
        both.touch(0o600)
        both.write_bytes(cert.read_bytes() + key.read_bytes())
    return str(cert), str(key)


class PortfwdTLSIn(Portfwd):
    """portfwd with ``tls:`` listeners."""

    name = "portfwd-tls-in"
    about = "tls: listener"
    takes_read_size = False
    takes_datagrams = False
    only_group = IN

    def rules(self, setup: Setup) -> str:
        """Its rules file."""
        folder = setup.folder if setup.folder.is_dir() else self._scratch
        cert, key = make_certificate(folder)
        return "log access=off\n" + "".join(
            f"{one.name}: tls:{setup.host}:{one.port} cert={cert} key={key}"
            f" -> {one.target_host}:{one.target_port}\n"
            for one in setup.forwards
        )


class PortfwdTLSOut(Portfwd):
    """portfwd with ``tls:`` targets."""

    name = "portfwd-tls-out"
    about = "tls: target, verify=off"
    takes_read_size = False
    takes_datagrams = False
    only_group = OUT

    def rules(self, setup: Setup) -> str:
        """Its rules file."""
        return "log access=off\n" + "".join(
            f"{one.name}: {setup.host}:{one.port} -> tls:{one.target_host}:{one.target_port} verify=off\n"
            for one in setup.forwards
        )


class NginxTLSIn(Nginx):
    """nginx stream that ends TLS."""

    name = "nginx-tls-in"
    about = "worker_processes 1, proxy_buffer_size 64k, ssl"
    takes_read_size = False
    takes_datagrams = False
    only_group = IN
    _ends: ClassVar[bool] = True

    def configuration(self, setup: Setup, module: str) -> str:
        """Its configuration file."""
        text = super().configuration(setup, module)
        if not self._ends:
            lines = "    proxy_ssl on;\n    proxy_ssl_session_reuse off;\n"
        else:
            cert, key = make_certificate(setup.folder)
            text = text.replace(" backlog=4096;", " backlog=4096 ssl;")
            lines = (
                f"    ssl_certificate {cert};\n    ssl_certificate_key {key};\n    ssl_session_cache off;\n"
            )
        verb = "ssl_protocols" if self._ends else "proxy_ssl_protocols"
        return text.replace("stream {\n", f"stream {{\n{lines}    {verb} TLSv1.2 TLSv1.3;\n", 1)


class NginxTLSOut(NginxTLSIn):
    """nginx stream that begins TLS."""

    name = "nginx-tls-out"
    about = "worker_processes 1, proxy_buffer_size 64k, proxy_ssl"
    only_group = OUT
    _ends = False


class HAProxyTLSIn(HAProxy):
    """HAProxy that ends TLS."""

    name = "haproxy-tls-in"
    about = "nbthread 1, ssl crt"
    takes_read_size = False
    only_group = IN

    def configuration(self, setup: Setup) -> str:
        """Its configuration file."""
        make_certificate(setup.folder)
        text = super().configuration(setup)
        for one in setup.forwards:
            bind = f"    bind {setup.host}:{one.port}\n"
            text = text.replace(bind, f"{bind.rstrip()} ssl crt {setup.folder}/both.pem\n")
        return text


class HAProxyTLSOut(HAProxy):
    """HAProxy that begins TLS."""

    name = "haproxy-tls-out"
    about = "nbthread 1, server ssl verify none no-ssl-reuse"
    takes_read_size = False
    only_group = OUT

    def configuration(self, setup: Setup) -> str:
        """Its configuration file."""
        text = super().configuration(setup)
        for one in setup.forwards:
            server = f"    server s {one.target_host}:{one.target_port}\n"
            text = text.replace(server, f"{server.rstrip()} ssl verify none no-ssl-reuse\n")
        return text
