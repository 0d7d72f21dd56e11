"""What is deployed from: the container's file, the Kubernetes manifests and the Helm chart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.cli.main import make_parser
from portfwd.rules import parse
from portfwd.version import __version__
from tests.integration.case import needs_deep

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "portfwd"
Manifest = dict[str, Any]


def by_kind(manifests: list[Manifest]) -> dict[str, list[Manifest]]:
    """The manifests of each kind."""
    return {
        kind: [one for one in manifests if one["kind"] == kind] for kind in (m["kind"] for m in manifests)
    }


class ContainerTests(SynchronousTestCase):
    """The Containerfile; `.ci/image` builds and runs it."""

    def setUp(self) -> None:
        self.text = (ROOT / "Containerfile").read_text()
        self.last = dict(
            line.split(" ", 1)
            for line in self.text.rpartition("\nFROM ")[2].splitlines()
            if line[:1].isupper()
        )

    def test_settings(self) -> None:
        """It is not root, has a health check and a stop signal that drains."""
        user, group = self.last["USER"].split(":")
        self.assertTrue(user.isdigit() and group.isdigit() and int(user) > 0)
        self.assertEqual(self.last["STOPSIGNAL"], "SIGTERM")
        self.assertIn('CMD ["portfwd", "status"]', self.last["HEALTHCHECK"])

    def test_command(self) -> None:
        """It runs a command of portfwd's, by rules that have the socket which the health check asks."""
        self.assertEqual(json.loads(self.last["ENTRYPOINT"]), ["portfwd"])
        arguments = make_parser().parse_args(json.loads(self.last["CMD"]))
        self.assertTrue(arguments.watch)
        copied, target = self.last["COPY"].split()
        self.assertEqual(target, arguments.config)
        rules = (ROOT / copied).read_text()
        self.assertIn("admin unix:/run/portfwd/admin.sock\n", rules)
        self.assertEqual(len(parse(rules, copied).rules), 0)

    def test_build_input(self) -> None:
        """Everything that it copies is let through by .containerignore."""
        let_through = {
            line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")
        }
        for name in (
            "portfwd",
            "twisted",
            "share",
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "deploy/container",
        ):
            self.assertIn(name, let_through)
            self.assertTrue((ROOT / name).exists())

    def test_lint(self) -> None:
        """hadolint has no complaint."""
        if shutil.which("hadolint") is None:
            raise SkipTest("hadolint is not in Debian: install it to check the Containerfile")
        done = subprocess.run(
            ["hadolint", ROOT / "Containerfile"], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (0, ""))


class ManifestTests(SynchronousTestCase):
    """Kubernetes manifests: by kustomize, and by Helm."""

    if missing := [name for name in ("yaml", "kubernetes_validate") if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}, of the extra 'test'"

    def rendered(self) -> list[Manifest]:
        """What ``kubectl apply -k`` would send."""
        if shutil.which("kubectl") is None:
            raise SkipTest("kubectl is installed by hand: Debian 12 has none of its own name")
        place = Path(self.mktemp())
        shutil.copytree(KUBERNETES, place)
        with open(place / "kustomization.yaml", "a") as file:
            file.write("components: [monitoring]\n")
        return self.built(place)

    def built(self, place: Path) -> list[Manifest]:
        """What kustomize makes of a directory."""
        import yaml

        done = subprocess.run(["kubectl", "kustomize", place], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return list(yaml.safe_load_all(done.stdout))

    def chart(self, **values: Any) -> list[Manifest]:
        """What ``helm install`` would send."""
        import yaml

        if find_spec("helm_python") is None:
            raise SkipTest("helm-python-sdk is installed by hand")
        from helm_python.chart import Chart  # type: ignore[import-not-found]

        with Chart.load(os.fspath(CHART)) as chart:
            texts = chart.render(values=values, name="portfwd")
        return [
            one
            for name, text in sorted(texts.items())
            if name.endswith(".yaml")
            for one in yaml.safe_load_all(text)
            if one
        ]

    def check(self, manifests: list[Manifest]) -> None:
        """Each fits its schema, and what selects pods selects those that there are."""
        import kubernetes_validate

        for one in manifests:
            if one["kind"] != "ServiceMonitor":  # of the Prometheus operator: it has no schema there
                kubernetes_validate.validate(one, "1.30", strict=True)
        self.check_selectors(manifests)
        of = by_kind(manifests)
        (deployment,) = of["Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        names = {port["name"] for port in container["ports"]}
        used = [container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")]
        used += [port["targetPort"] for one in of["Service"] for port in one["spec"]["ports"]]
        self.assertEqual(set(used) - names, set())
        self.check_ports(manifests)
        (config,) = of["ConfigMap"]
        rules = parse(config["data"]["rules.conf"], "rules.conf").rules
        listening = {one.listen.ports.first for one in rules if one.listen.ports is not None}
        self.assertEqual(listening, {port["containerPort"] for port in container["ports"]} - {9100})
        arguments = make_parser().parse_args([str(word) for word in container["args"]])
        self.assertTrue(arguments.watch)
        security = container["securityContext"]
        self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
        self.assertTrue(security["readOnlyRootFilesystem"])
        before = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        self.assertGreater(grace, before + float(arguments.drain.removesuffix("s")))
        self.assertTrue(container["image"].endswith(f":{__version__}"), container["image"])

    def check_selectors(self, manifests: list[Manifest]) -> None:
        """What selects pods says which, and selects those that there are; a monitor finds one Service."""
        of = by_kind(manifests)
        (deployment,) = of["Deployment"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selectors = [deployment["spec"]["selector"]["matchLabels"]]
        selectors += [one["spec"].get("selector", {}) for one in of["Service"]]
        selectors += [one["spec"]["selector"]["matchLabels"] for one in of["PodDisruptionBudget"]]
        selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of["NetworkPolicy"]]
        for selector in selectors:
            self.assertNotEqual(selector, {})
            self.assertEqual(selector.items() & labels.items(), selector.items())
        for monitor in of.get("ServiceMonitor", ()):
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            found = [one for one in of["Service"] if wanted <= one["metadata"]["labels"].items()]
            self.assertEqual(len(found), 1)
            ports = {port["name"] for port in found[0]["spec"]["ports"]}
            self.assertLessEqual({one["port"] for one in monitor["spec"]["endpoints"]}, ports)

    def check_ports(self, manifests: list[Manifest]) -> None:
        """Each port of the pods is one of a Service, and the policy lets clients reach it."""
        of = by_kind(manifests)
        (deployment,) = of["Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        names = {port["name"] for port in container["ports"]}
        served = {port["targetPort"] for one in of["Service"] for port in one["spec"]["ports"]}
        self.assertEqual(names - {"metrics"}, served - {"metrics"})
        ingress = [rule for one in of["NetworkPolicy"] for rule in one["spec"]["ingress"]]
        self.assertEqual({port["port"] for rule in ingress for port in rule["ports"]}, names)

    def test_kustomize(self) -> None:
        """The manifests are right, with the component for the Prometheus operator too."""
        self.check(self.rendered())

    def overlay(self, rules: str, *more: str) -> list[Manifest]:
        """What kustomize makes of the overlay of the page, with the `more` listings at its end."""
        if shutil.which("kubectl") is None:
            raise SkipTest("kubectl is installed by hand: Debian 12 has none of its own name")
        root = Path(self.mktemp())
        shutil.copytree(KUBERNETES, root / "deploy" / "kubernetes")
        (root / "overlay").mkdir()
        texts = [(ROOT / "docs" / "listings" / name).read_text() for name in ("overlay.yaml", *more)]
        (root / "overlay" / "kustomization.yaml").write_text("".join(texts))
        (root / "overlay" / "rules.conf").write_text(rules)
        return self.built(root / "overlay")

    def test_overlay(self) -> None:
        """The overlay of the page takes the image and the rules of its directory."""
        rules = "metrics :9100\nmine: :8080 -> 10.0.0.5:80\n"
        manifests = self.overlay(rules)
        self.check_selectors(manifests)
        self.check_ports(manifests)
        found = {one["kind"]: one for one in manifests}
        self.assertEqual(found["ConfigMap"]["data"], {"rules.conf": rules})
        (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
        self.assertEqual(container["image"], "registry.example.com/portfwd:1")
        self.assertIn("ServiceMonitor", found)

    def test_overlay_port(self) -> None:
        """The patches of the page add a port to all objects that name it."""
        rules = "metrics :9100\nweb: :8080 -> 10.0.0.5:80\ndb: :5432 -> 10.0.0.6:5432\n"
        manifests = self.overlay(rules, "overlay-port.yaml")
        self.check_selectors(manifests)
        self.check_ports(manifests)
        (deployment,) = by_kind(manifests)["Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        self.assertIn({"name": "db", "containerPort": 5432}, container["ports"])

    def test_component(self) -> None:
        """The component selects by itself: the labels of the base do not reach what an overlay adds."""
        import yaml

        def read(name: str) -> Manifest:
            return dict(yaml.safe_load((KUBERNETES / name).read_text()))

        (pairs,) = (one["pairs"] for one in read("kustomization.yaml")["labels"])
        service = read("monitoring/service.yaml")
        selector = service["spec"]["selector"]
        self.assertNotEqual(selector, {})
        self.assertLessEqual(selector.items(), pairs.items())
        wanted = read("monitoring/monitor.yaml")["spec"]["selector"]["matchLabels"]
        self.assertLessEqual(wanted.items(), service["metadata"]["labels"].items())
        self.assertFalse(wanted.items() <= pairs.items(), "it would find the Service of the clients too")

    def test_probes(self) -> None:
        """The rules of the manifests have the listener that the probes ask."""
        self.assertRegex((KUBERNETES / "rules.conf").read_text(), r"(?m)^metrics :9100$")

    def test_chart(self) -> None:
        """The chart is right, as it is and with everything that can be said."""
        self.check(self.chart())
        more = self.chart(
            metrics={"serviceMonitor": True},
            ports=[{"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            rules="dns: :53/udp -> 10.0.0.1:53/udp\n",
            secrets=["tls"],
            podAnnotations={"a": "b"},
            nodeSelector={"a": "b"},
            tolerations=[{"key": "a", "operator": "Exists"}],
            service={"annotations": {"a": "b"}},
        )
        self.check(more)
        self.assertEqual(len([one for one in more if one["kind"] == "ServiceMonitor"]), 1)
        less = self.chart(networkPolicy={"enabled": False}, disruptionBudget={"enabled": False})
        self.assertEqual({one["kind"] for one in less}, {"ConfigMap", "Deployment", "Service"})

    def test_chart_is_the_manifests(self) -> None:
        """The chart's pods are those of the manifests, but for labels and defaults that are written out."""

        def pod(manifests: list[Manifest]) -> dict[str, Any]:
            (found,) = (one for one in manifests if one["kind"] == "Deployment")
            spec = json.loads(re.sub(r'"app.kubernetes.io/instance": "portfwd", ', "", json.dumps(found)))
            spec = spec["spec"]["template"]["spec"]
            for one in spec["topologySpreadConstraints"]:
                one["labelSelector"]["matchLabels"].pop("app.kubernetes.io/instance", None)
            for one in spec["containers"]:
                one.pop("imagePullPolicy", None)
                for port in one["ports"]:
                    port.pop("protocol", None)
            return dict(spec)

        self.assertEqual(pod(self.rendered()), pod(self.chart()))

    def test_chart_refuses(self) -> None:
        """Values that make no sense are refused by the chart's schema."""
        self.chart()
        from helm_python.errors import HelmError

        for values in ({"rules": ""}, {"ports": []}, {"ports": [{"name": "a", "containerPort": 70000}]}):
            self.assertRaises(HelmError, self.chart, **values)


class PageTests(SynchronousTestCase):
    """What the pages say of deployments."""

    PAGES = (*(ROOT / "docs").rglob("*.md"), CHART / "templates" / "NOTES.txt")

    def test_exec(self) -> None:
        """A command that needs a terminal gets one in a container or pod."""
        command = re.compile(r"(?:kubectl|podman|docker) exec (.*?)portfwd (top|shell)\b")
        found = [(page.name, *one) for page in self.PAGES for one in command.findall(page.read_text())]
        self.assertIn("kubernetes.md", {name for name, *_ in found})
        self.assertEqual([one for one in found if not one[1].startswith("-it ")], [])


class DeepTests(SynchronousTestCase):
    """The scripts that take minutes, and a package mirror."""

    def scripts(self) -> Iterator[tuple[str, ...]]:
        """Each with its words."""
        yield ".ci/package", "bookworm"
        yield ".ci/package", "trixie"
        yield (".ci/image",)

    def test_scripts(self) -> None:
        """The Debian package on both releases, and the image."""
        needs_deep()
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise SkipTest("needs root and debootstrap")
        for command in self.scripts():
            if command == (".ci/image",) and shutil.which("buildah") is None:
                continue
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
