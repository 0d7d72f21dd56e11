"""
The Kubernetes manifests at work: what the kubelet does with a pod of theirs, done here.

A ConfigMap that is switched, the container's command, its probes, and its end by ``preStop``, TERM and the
grace period. Paths and ports are replaced by ones of this machine; the image's program is this checkout's.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.integration.case import ForwarderCase
from tests.integration.control_case import COMMAND
from tests.integration.echo import EchoServer
from tests.integration.forwarder import ROOT, TIMEOUT, Forwarder, wait_until
from tests.service.contexts import a_free_port

KUBERNETES = ROOT / "deploy" / "kubernetes"


class KubeletTests(ForwarderCase):
    """One pod, from its start to its end."""

    if missing := [name for name in ("yaml", "prometheus_client") if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}"

    def setUp(self) -> None:
        """The manifest, and an upstream."""
        import yaml

        super().setUp()
        deployment = yaml.safe_load((KUBERNETES / "deployment.yaml").read_text())
        self.pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.upstream = EchoServer()
        self.addCleanup(self.upstream.close)
        self.ports = {port["name"]: a_free_port() for port in self.container["ports"]}
        self.volume = self.directory / "rules"
        self.volume.mkdir()
        (self.volume / "rules.conf").symlink_to("..data/rules.conf")
        self.published = 0

    def publish(self, change: str = "") -> None:
        """Bring the ConfigMap, as the kubelet does; `change` is appended to its rules."""
        text = (KUBERNETES / "rules.conf").read_text() + change
        for name, number in (("web", 8080), ("metrics", 9100)):
            text = text.replace(f":{number}", f"127.0.0.1:{self.ports[name]}")
        text = text.replace("backend.default.svc:80", f"127.0.0.1:{self.upstream.port}")
        text = text.replace("/run/portfwd", str(self.directory))
        self.published += 1
        new = self.volume / f"..{self.published}"
        new.mkdir()
        (new / "rules.conf").write_text(text)
        (self.volume / "..data_tmp").symlink_to(new.name)
        os.rename(self.volume / "..data_tmp", self.volume / "..data")

    def probe(self, name: str) -> int | None:
        """The status that the probe gets; None for no answer."""
        probe = self.container[name]["httpGet"]
        asking = http.client.HTTPConnection("127.0.0.1", self.ports[probe["port"]], timeout=TIMEOUT)
        try:
            asking.request("GET", probe["path"])
            return asking.getresponse().status
        except OSError:
            return None
        finally:
            asking.close()

    def connect(self, port: int) -> socket.socket:
        """A client that has had an answer."""
        client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.addCleanup(client.close)
        client.sendall(b"hello")
        self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"hello")
        return client

    def started(self) -> Forwarder:
        """The container's process."""
        words = [str(word).replace("/etc/portfwd", str(self.volume)) for word in self.container["args"]]
        self.assertEqual(words[0], "run")
        Path(self.directory / "pod").mkdir()
        forwarder = Forwarder(self.directory / "pod", None, words[1:], program=(*COMMAND, "run"))
        self.addCleanup(forwarder.clean_up)
        return forwarder

    def test_life(self) -> None:
        """Started, ready, given other rules, ended while a session is open: no client is cut."""
        self.publish()
        self.assertIsNone(self.probe("readinessProbe"))
        forwarder = self.started()
        wait_until(lambda: self.probe("readinessProbe") == 200, TIMEOUT, lambda: forwarder.log)
        self.assertEqual(self.probe("livenessProbe"), 200)
        session = self.connect(self.ports["web"])

        self.publish("broken: nonsense\n")
        forwarder.wait_for_line("refused, nothing was changed")
        self.assertEqual(self.probe("readinessProbe"), 200)
        other = a_free_port()
        self.publish(f"more: 127.0.0.1:{other} -> 127.0.0.1:{self.upstream.port}\n")
        forwarder.wait_for_line("1 added, 1 unchanged")
        self.connect(other).close()

        # preStop waits, and the pod serves on; its length is checked with the manifests.
        self.assertEqual(self.container["lifecycle"]["preStop"]["exec"]["command"][0], "sleep")
        self.connect(self.ports["web"]).close()
        forwarder.signal(signal.SIGTERM)
        wait_until(lambda: self.probe("readinessProbe") != 200, TIMEOUT, lambda: forwarder.log)
        session.sendall(b"still")
        self.assertEqual(session.recv(5, socket.MSG_WAITALL), b"still")
        session.close()
        self.assertEqual(forwarder.wait(self.pod["terminationGracePeriodSeconds"]), 0, forwarder.log)
        self.assertNotIn("cut", forwarder.log)
