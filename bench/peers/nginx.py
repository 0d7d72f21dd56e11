# -*- test-case-name: tests.bench.test_peers -*-
"""nginx with its stream module, one worker, with buffers of 64 KiB and of 16 KiB (its default)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from bench.peers.api import AbsentError, Logs, Peer, Setup, said_by
from bench.processes import descriptors

#: Where distributions put dynamic modules; a build with the module inside has no such file.
_MODULES: Final = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/libexec/nginx")


def stream_module() -> str:
    """
    The ``load_module`` line, or nothing where the module is built in.

    :raises AbsentError: without nginx or the module.
    """
    said_by(["nginx", "-v"])
    for folder in _MODULES:
        path = Path(folder) / "ngx_stream_module.so"
        if path.exists():
            return f"load_module {path};\n"
    raise AbsentError("nginx has no stream module (libnginx-mod-stream)")


class Nginx(Peer):
    """nginx stream."""

    name = "nginx-64k"
    about = "worker_processes 1, proxy_buffer_size 64k"
    takes_read_size = True
    takes_datagrams = True
    _buffer: ClassVar[int] = 65536

    def version(self) -> str:
        """As ``nginx -v`` says."""
        stream_module()
        return said_by(["nginx", "-v"]).rpartition("nginx/")[2]

    def configuration(self, setup: Setup, module: str) -> str:
        """Its configuration file; `module` is the line that loads the stream module."""
        log = "    access_log off;\n"
        if setup.logs is Logs.ON:
            log = (
                "    log_format line '$remote_addr [$time_local] $status $bytes_sent $bytes_received"
                f' $session_time "$upstream_addr"\';\n    access_log {setup.folder}/access.log line;\n'
            )
        servers = "".join(
            f"    server {{ listen {setup.host}:{forward.port} backlog=4096;"
            f" proxy_pass {forward.target_host}:{forward.target_port}; }}\n"
            for forward in setup.forwards
        )
        if setup.datagrams:
            servers += "".join(
                f"    server {{ listen {setup.host}:{forward.port} udp;"
                f" proxy_pass {forward.target_host}:{forward.target_port}; }}\n"
                for forward in setup.forwards
            )
        return (
            f"{module}daemon off;\nworker_processes 1;\nworker_rlimit_nofile {descriptors()};\n"
            f"pid {setup.folder}/nginx.pid;\nerror_log {setup.folder}/error.log warn;\n"
            f"events {{ worker_connections {descriptors()}; }}\n"
            f"stream {{\n{log}    proxy_buffer_size {setup.read_size or self._buffer};\n"
            f"    proxy_timeout 1h;\n{servers}}}\n"
        )

    def command(self, setup: Setup) -> list[str]:
        """In the foreground."""
        path = setup.folder / "nginx.conf"
        path.write_text(self.configuration(setup, stream_module()))
        return ["nginx", "-e", f"{setup.folder}/error.log", "-p", str(setup.folder), "-c", str(path)]


class NginxSmall(Nginx):
    """nginx stream with its default buffer."""

    name = "nginx-16k"
    about = "worker_processes 1, proxy_buffer_size 16k"
    takes_read_size = False
    takes_datagrams = False
    in_quick = False
    _buffer = 16384
