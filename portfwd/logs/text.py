# -*- test-case-name: tests.logs.test_text -*-
"""
The access line for people: ``log access=text``.

One line a session, written when it has closed::

    2026-01-31T12:00:01.500Z closed id=7 rule=web client=192.0.2.1:5555 local=10.0.0.1:8080
    upstream=10.0.0.5:80 to_upstream=312 to_client=48211 connect=0.001204 first_byte=0.003411
    duration=1.499817 reason=-- ended_first=client relay=splice detail=-

(This is one line, wrapped here.) The line starts with the time of the close in UTC and the word ``closed``.
The keys above follow, always all of them and in this order. New keys are added at the end; optional ones come
after them. The line of an opening has the word ``opened``, the keys up to ``upstream``, and ``connect``.

- ``id`` counts sessions of the process; ``rule`` is the rule's name;
- ``client``, ``local``, ``upstream``: addresses, ``-`` for none;
- ``to_upstream``, ``to_client``: bytes accepted by the kernel for that side;
- ``connect``: seconds from dial to connection; ``first_byte``: from there to the upstream's first byte;
  ``duration``: from accept to close; ``-`` if it did not happen;
- ``reason``: the two letters of `CloseReason`; ``ended_first``: ``client``, ``upstream`` or ``-``;
- ``relay``: ``splice``, ``copy``, ``pair`` or ``-``; ``detail``: text of the error or ``-``;
- ``client_name``, if the client sent a certificate: the name in it;
- ``dropped``, if datagrams were dropped: their number by cause, as in ``proxy-in:12,buffer:3``;
- ``repeated``, in a line for several sessions: their number (`portfwd.logs.repeats`).

A value with a blank, a quote, ``=``, a backslash or an unprintable character is in double quotes, escaped by
`portfwd.values.printable`.
"""

from __future__ import annotations

from portfwd.logs.fields import ABSENT, address_word, known_word, seconds, utc_time, word
from portfwd.values import SessionSummary


def text_line(summary: SessionSummary) -> str:
    """Format the line of a session, without a line end. A summary without a reason is of an opening."""
    reason = summary.reason
    line = (
        f"{utc_time(summary.opened_at + summary.duration)} {'opened' if reason is None else 'closed'}"
        f" id={summary.id}"
        f" rule={known_word(summary.rule)}"
        f" client={address_word(summary.client)}"
        f" local={address_word(summary.local)}"
        f" upstream={address_word(summary.upstream)}"
    )
    if reason is None:
        return f"{line} connect={seconds(summary.connect_time)}{_client_name(summary)}"
    line += (
        f" to_upstream={summary.to_upstream.bytes}"
        f" to_client={summary.to_client.bytes}"
        f" connect={seconds(summary.connect_time)}"
        f" first_byte={seconds(summary.first_byte)}"
        f" duration={seconds(summary.duration)}"
        f" reason={reason.code}"
        f" ended_first={ABSENT if summary.ended_first is None else summary.ended_first.value}"
        f" relay={known_word(summary.relay or None)}"
        f" detail={word(summary.detail) if summary.detail else ABSENT}"
        f"{_client_name(summary)}"
    )
    if summary.dropped:
        line += " dropped=" + word(",".join(f"{cause}:{count}" for cause, count in summary.dropped))
    if summary.repeated:
        line += f" repeated={summary.repeated}"
    return line


def _client_name(summary: SessionSummary) -> str:
    """The key ``client_name``; empty if the client sent no certificate."""
    name = "" if summary.tls is None else summary.tls.client_name
    return f" client_name={word(name)}" if name else ""
