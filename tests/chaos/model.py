"""
What a forwarder must do, as values: rules, what operators said, sessions, clients that wait, counters.

The model knows no sockets and no time. Each method is one thing that happens; the driver does it to the real
forwarder and compares. Clients are numbers that the driver gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

PAUSED: Final = "paused"
DRAINED: Final = "closed"

#: Close reasons, as the log writes them.
NORMAL, LIMIT, KILLED = "--", "LC", "KD"

#: Kinds of listeners whose clients send datagrams.
DATAGRAMS: Final = frozenset({"udp", "unix-dgram"})
TLS: Final = ("tls", "tls:unix")
UNIX: Final = frozenset({"unix", "unix-dgram", "tls:unix"})

#: The name on which rules listen whose address changes.
MOVING: Final = "moving.test"

#: The limit that rules share.
SHARED: Final = 6


@frozen
class Spec:
    """
    One rule of the file.

    :ivar kind: ``tcp``, ``tls``, ``udp``, ``unix``, ``unix-dgram``, ``tls:unix``, ``systemd``
        or ``endpoint``.
    :ivar place: the port, the name of the socket's file, or systemd's name of the socket.
    :ivar most: ``max-conns``; None for none.
    :ivar wait: ``on-limit=wait``.
    :ivar shares: it has a share in the limit of several rules.
    :ivar cut: ``on-remove=cut``.
    :ivar variant: an option that changes nothing here, but makes it another rule.
    :ivar included: it stands in the included file.
    """

    name: str
    kind: str
    host: str
    place: str
    most: int | None = None
    wait: bool = False
    shares: bool = False
    cut: bool = False
    filtered: bool = False
    variant: int = 0
    included: bool = False

    def __str__(self) -> str:
        words = [f"{self.name}: {self.kind} {self.host}:{self.place}"]
        if self.most is not None:
            words.append(f"max={self.most} {'wait' if self.wait else 'refuse'}")
        words += [word for word, said in (("pool", self.shares), ("cut", self.cut)) if said]
        words += [word for word, said in (("filter", self.filtered),) if said]
        return " ".join((*words, str(self.variant)))

    @property
    def key(self) -> tuple[str, ...]:
        """Equal where one socket can serve both rules."""
        return (
            (self.kind, self.place) if self.kind in (*UNIX, "systemd") else (self.kind, self.host, self.place)
        )


@define(eq=False)
class Session:
    """
    One that is open.

    :ivar rule: the name that its line will have.
    :ivar place: the name of the rule for whose limits it counts.
    :ivar heir: the rule at work that is in the place of its own; None if that was removed.
    :ivar shares: it counts for the limit of several rules.
    :ivar certificate: the number of the one that a TLS client is shown.
    """

    client: int
    rule: str
    place: str
    heir: str | None
    shares: bool
    kind: str
    certificate: int


@define(eq=False)
class Waiting:
    """
    A client in a backlog, or of a listener that was closed.

    :ivar spec: the rule that will serve it.
    :ivar heir: the rule at work that is in the place of it; None if it was removed.
    :ivar late: its listener is closed.
    :ivar certificate: the one of the rule as it was, where that is gone; None: the one at work.
    """

    client: int
    spec: Spec
    heir: str | None
    late: bool = False
    certificate: int | None = None


@define(eq=False)
class Model:
    """
    :ivar rules: at work, by name, in their order.
    :ivar said: by name, what operators said of rules.
    :ivar certificate: the number of the one that TLS clients see.
    :ivar address: of the name on which rules listen.
    :ivar lost: files of unix sockets that somebody removed.
    :ivar closed: sessions by rule and close reason, since the start.
    :ivar totals: sessions by rule, as metrics count them.
    :ivar former: totals of names that no rule and no session had any more.
    :ivar reset: clients that were turned away by the last event, so that they see an end.
    """

    rules: dict[str, Spec] = field(factory=dict)
    said: dict[str, str] = field(factory=dict)
    certificate: int = 0
    address: str = ""
    lost: set[str] = field(factory=set)
    sessions: dict[int, Session] = field(factory=dict)
    waiting: list[Waiting] = field(factory=list)
    closed: Counter[tuple[str, str]] = field(factory=Counter)
    totals: Counter[str] = field(factory=Counter)
    former: dict[str, int] = field(factory=dict)
    reset: list[int] = field(factory=list)
    reloads: int = 0
    failures: int = 0

    # What must be so

    def state(self, name: str) -> str:
        """As the control socket calls it."""
        said = self.said.get(name, "")
        if said == DRAINED:
            return "draining" if self.belonging()[name] else "closed"
        return said or "accepting"

    def host(self, spec: Spec) -> str:
        """Where a rule with a port listens now."""
        return self.address if spec.host == MOVING else spec.host

    def listening(self) -> set[tuple[str, str]]:
        """Address and port of each listener for connections that must be there."""
        return {
            (self.host(spec), spec.place)
            for spec in self.rules.values()
            if spec.kind in ("tcp", "tls", "endpoint") and self.said.get(spec.name) != DRAINED
        }

    def active(self) -> Counter[str]:
        """Open sessions by the names that they began under."""
        return Counter(session.rule for session in self.sessions.values())

    def belonging(self) -> Counter[str]:
        """Open sessions by the rule at work that is in the place of theirs, or by their own."""
        return Counter(session.heir or session.rule for session in self.sessions.values())

    def _count(self, place: str) -> int:
        return sum(session.place == place for session in self.sessions.values())

    def is_full(self, spec: Spec) -> bool:
        """Whether the rule has as many sessions as it may."""
        return spec.most is not None and self._count(spec.name) >= spec.most

    def _pool_is_full(self, spec: Spec) -> bool:
        return spec.shares and sum(session.shares for session in self.sessions.values()) >= SHARED

    # Clients

    def connect(self, client: int, name: str) -> str:
        """
        A client comes to a rule that listens.

        :returns: ``served``, ``refused`` or ``waits``.
        """
        spec = self.rules[name]
        if self.said.get(name) == PAUSED or (spec.wait and self.is_full(spec)):
            self.waiting.append(Waiting(client, spec, name))
            return "waits"
        return self._admit(client, spec, name)

    def _admit(self, client: int, spec: Spec, heir: str | None, certificate: int | None = None) -> str:
        self.totals[spec.name] += 1
        # Whoever is late counts for the rule that is in the place of its own.
        judge = spec if heir is None else self.rules[heir]
        if self.is_full(judge) or self._pool_is_full(judge):
            self.closed[spec.name, LIMIT] += 1
            self.reset.append(client)
            return "refused"
        self.sessions[client] = Session(
            client,
            spec.name,
            judge.name,
            heir,
            judge.shares,
            spec.kind,
            self.certificate if certificate is None else certificate,
        )
        return "served"

    def leave(self, client: int) -> None:
        """A client ends its session in order."""
        self._end(client, NORMAL)
        self._settle()

    def _end(self, client: int, reason: str) -> None:
        session = self.sessions.pop(client)
        self.closed[session.rule, reason] += 1
        self._forget()

    def _settle(self) -> None:
        """Serve those who wait and need not any more; the first ones first."""
        for one in list(self.waiting):
            spec = one.spec
            if not one.late and self.said.get(spec.name) == PAUSED:
                continue
            judge = spec if one.heir is None else self.rules[one.heir]
            if judge.wait and self.is_full(judge):
                continue
            self.waiting.remove(one)
            self._admit(one.client, spec, one.heir, one.certificate)

    # Operators

    def pause(self, name: str) -> None:
        """Clients wait."""
        if self.said.get(name) != DRAINED:
            self.said[name] = PAUSED

    def resume(self, name: str) -> None:
        """The rule listens, and serves those who wait."""
        if self.said.pop(name, None) == DRAINED and self.rules[name].kind in UNIX:
            self.lost.discard(self.rules[name].place)
        self._settle()

    def drain(self, name: str) -> None:
        """The rule listens no more; who waits is served if a limit lets it, or reset."""
        if self.said.get(name) == DRAINED:
            return
        self.said[name] = DRAINED
        self._take_waiting([one for one in self.waiting if one.spec.name == name and not one.late])
        for one in list(self.waiting):
            if one.late and name in (one.heir, one.spec.name):
                self.waiting.remove(one)
                self.reset.append(one.client)

    def kill(self, name: str) -> None:
        """The sessions of that name end."""
        for client in [one.client for one in self.sessions.values() if one.rule == name]:
            self._end(client, KILLED)
        self._settle()

    def lose(self, place: str) -> None:
        """Somebody removes the file of a unix socket."""
        self.lost.add(place)

    # Reloads

    def refused(self) -> None:
        """A reload changed nothing."""
        self.failures += 1

    def reload(self, specs: Sequence[Spec], certificate: int, address: str) -> None:
        """Other rules are at work."""
        self.reloads += 1
        before, self.rules = self.rules, {spec.name: spec for spec in specs}
        heirs = dict(self._heirs(before))
        moved = address != self.address
        shown, self.certificate, self.address = self.certificate, certificate, address
        said = self.said
        self.said = {name: said[name] for name in self.rules if name in said}
        late: list[Waiting] = []
        for one in list(self.waiting):
            if one.late and one.heir is not None:
                heir = heirs.get(one.heir)
                if heir is None and before[one.heir].cut:
                    self.waiting.remove(one)
                    self.reset.append(one.client)
                one.heir = None if heir is None else heir.name
        for old in before.values():
            heir = heirs.get(old.name)
            mine = [one for one in self.waiting if one.spec is old and not one.late]
            if heir is None:
                self._remove(old, mine)
                for one in mine if not old.cut else []:
                    one.heir, one.certificate = None, shown
                    late.append(one)
                continue
            for session in self.sessions.values():
                if session.heir == old.name:
                    # Marked first: two rules may change their names.
                    session.heir = f"={heir.name}"
            renewed = (old.host == MOVING and moved) or (old.kind in UNIX and old.place in self.lost)
            for one in mine:
                one.heir = heir.name
                if renewed:
                    late.append(one)
                else:
                    one.spec = heir
        for session in self.sessions.values():
            if session.heir is not None and session.heir.startswith("="):
                session.heir = session.place = session.heir[1:]
                session.shares = self.rules[session.heir].shares
        self.lost.clear()
        for one in late:
            one.late = True
        self._settle()
        self._forget()

    def _heirs(self, before: dict[str, Spec]) -> Iterator[tuple[str, Spec]]:
        """Names of old rules, each with the rule that gets its listener."""
        free = {old.key: old for old in before.values()}
        for spec in self.rules.values():
            old = free.get(spec.key)
            if old is None:
                continue
            # A drained rule takes over no listener but its own.
            if old.name == spec.name or self.said.get(spec.name) != DRAINED:
                yield old.name, spec

    def _remove(self, old: Spec, waiting: Sequence[Waiting]) -> None:
        for session in list(self.sessions.values()):
            if session.heir == old.name:
                # It counts for its own name from here on.
                session.heir, session.place = None, session.rule
                if old.cut:
                    self._end(session.client, KILLED)
        if old.cut:
            for one in waiting:
                self.waiting.remove(one)
                self.reset.append(one.client)

    def _take_waiting(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            self.waiting.remove(one)
            if one.spec.wait and self.is_full(one.spec):
                self.reset.append(one.client)
            else:
                self._admit(one.client, one.spec, one.heir)

    def _forget(self) -> None:
        """Counters of a name end with its last rule and its last session."""
        kept = {*self.rules, *(one.rule for one in self.sessions.values())}
        kept |= {one.spec.name for one in self.waiting}
        for name in set(self.totals) - kept:
            self.former[name] = self.totals.pop(name)

    def remember(self, totals: Mapping[str, int]) -> None:
        """
        See whether counters of names that are used again went on.

        They may: a counter is kept as long as something counts with it, which a model does not know.
        """
        for name, total in totals.items():
            former = self.former.get(name, 0)
            if former and name in self.rules and total == self.totals[name] + former:
                self.totals[name] += self.former.pop(name)
