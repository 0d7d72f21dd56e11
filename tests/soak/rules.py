"""The rules of a soak: every relay, TLS, filters, UDP, bridges, unix sockets; each reload varies them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from attrs import frozen

PASSING = "    filter python:tests.filters.passing.PassThrough\n"


@frozen
class Place:
    """
    One rule.

    :ivar listen: before ``->``, without the port for those that have one.
    :ivar target: ``ECHO`` stands for the upstream, a rule's name in braces for its address.
    :ivar clauses: beneath the rule.
    :ivar kind: how its clients speak: ``tcp``, ``tls``, ``unix`` or ``udp``.
    """

    name: str
    listen: str
    target: str
    options: str = ""
    clauses: str = ""
    kind: str = "tcp"


_CERT = "cert={directory}/server.pem"
_TRUST = "ca={directory}/ca.pem server-name=localhost"

PLACES = (
    Place("splice", "", "ECHO", "relay=splice"),
    Place("copy", "", "ECHO", "relay=copy"),
    Place("pair", "", "ECHO", "relay=pair"),
    Place("filtered", "", "ECHO", "", PASSING),
    Place("filtered-pair", "", "ECHO", "relay=pair", PASSING),
    Place("slow", "", "ECHO", "", "    filter faults latency delay=3ms jitter=2ms\n"),
    Place("paced", "", "ECHO", "bandwidth=20MiB/s bandwidth-per-source=15MiB/s"),
    Place("limited", "", "ECHO", "max-conns=10 max-conns-per-target=8 on-limit=wait"),
    Place("refusing", "", "ECHO", "", "    deny 127.0.0.0/8\n"),
    Place("second", "", "127.0.0.1:1, ECHO"),
    Place("named", "", "localhost:ECHOPORT"),
    Place("endpoint", "", 'endpoint:"tcp:127.0.0.1:ECHOPORT"'),
    Place("tls", "tls:", "ECHO", "", "", "tls"),
    Place("tls-filtered", "tls:", "ECHO", "", PASSING, "tls"),
    Place("to-tls", "", "tls:{tls}", _TRUST),
    Place("file", "unix:{directory}/client.socket", "ECHO", "", "", "unix"),
    Place("udp", "udp:", "udp:{bridge}", "", "", "udp"),
    Place("udp-filtered", "udp:", "udp:{bridge}", "", PASSING, "udp"),
    Place("bridge", "udp:", "tcp:ECHO", "framing=length16", "", "udp"),
)


def rules_text(directory: Path, echo: int, ports: dict[str, int], chance: Random) -> str:
    """
    A rules file.

    :param echo: the upstream's port.
    :param ports: of each rule that has one.
    :param chance: varies what a reload can change.
    """
    lines = [
        "log access=json file=access.log\n",
        f"admin unix:{directory}/admin.sock\n",
        f"metrics 127.0.0.1:{ports['metrics']}\n",
    ]
    # Nobody but the soak itself comes here: `tests.soak.inside`.
    inside = f"inside: 127.0.0.1:{ports['inside']} -> 127.0.0.1:{echo} linger=1s\n"
    lines.append(f"{inside}    filter python:tests.soak.inside.Inside\n")
    places = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    for place in chance.sample(PLACES, len(PLACES)):
        listen = place.listen
        if not listen.startswith("unix:"):
            listen += places[place.name]
        if place.kind == "tls":
            listen += f" {_CERT}"
        target = place.target.replace("ECHOPORT", str(echo)).replace("ECHO", f"127.0.0.1:{echo}")
        options = f"{place.options} linger=1s half-close={chance.randint(5, 60)}s"
        if place.kind == "udp":
            options += " idle=2s"
        elif chance.random() < 0.5:
            options += f" idle={chance.randint(20, 90)}s"
        if place.name != "limited" and chance.random() < 0.3:
            options += f" max-conns={chance.randint(100, 200)}"
        text = f"{place.name}: {listen} -> {target} {options}\n{place.clauses}"
        for name, address in places.items():
            text = text.replace(f"{{{name}}}", address)
        lines.append(text.replace("{directory}", str(directory)))
    return "".join(lines)
