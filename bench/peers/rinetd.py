# -*- test-case-name: tests.bench.test_peers -*-
"""rinetd, as the distribution ships it."""

from __future__ import annotations

from bench.peers.api import Logs, Peer, Setup, said_by


class Rinetd(Peer):
    """rinetd."""

    name = "rinetd"
    about = "as shipped"
    in_quick = False
    takes_datagrams = True

    def version(self) -> str:
        """As ``rinetd -v`` says."""
        return said_by(["rinetd", "-v"]).removeprefix("rinetd ")

    def configuration(self, setup: Setup) -> str:
        """Its configuration file."""
        lines = [
            f"{setup.host} {forward.port} {forward.target_host} {forward.target_port}\n"
            for forward in setup.forwards
        ]
        if setup.datagrams:
            lines += [
                f"{setup.host} {forward.port}/udp {forward.target_host} {forward.target_port}/udp\n"
                for forward in setup.forwards
            ]
        if setup.logs is Logs.ON:
            lines.append(f"logfile {setup.folder}/rinetd.log\n")
        return "".join(lines)

    def command(self, setup: Setup) -> list[str]:
        """In the foreground."""
        path = setup.folder / "rinetd.conf"
        path.write_text(self.configuration(setup))
        return ["rinetd", "-f", "-c", str(path)]
