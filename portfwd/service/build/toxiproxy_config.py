# -*- test-case-name: tests.service.toxiproxy.test_config -*-
"""The file of ``toxiproxy … config=FILE``: a JSON list of proxies, as toxiproxy-server takes it."""

from __future__ import annotations

from typing import Any, Final

from portfwd.admin.toxiproxy_api import read_json

#: Bytes of the file at most: ten thousand proxies with some toxics each.
MOST_BYTES: Final = 8 * 1024 * 1024


def read_proxies(path: str) -> list[dict[str, Any]]:
    """
    Read the file.

    :raises OSError: it cannot be read.
    :raises ValueError: it is no list of objects.
    """
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    found = read_json(data)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("expected a list of objects")
    return found
