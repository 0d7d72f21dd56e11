"""Tests of `portfwd.service.build.toxiproxy_config`: the file with proxies."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.build import toxiproxy_config
from portfwd.service.build.toxiproxy_config import read_proxies


class ReadTests(SynchronousTestCase):
    """A file each."""

    def read(self, text: str) -> object:
        """What is in it."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        return read_proxies(path)

    def test_good(self) -> None:
        """A list of objects."""
        self.assertEqual(self.read('[{"name": "a"}]'), [{"name": "a"}])

    def test_bad(self) -> None:
        """Anything else is refused; a missing file cannot be read."""
        for text in ("", "{}", "[1]", "["):
            self.assertRaises(ValueError, self.read, text)
        with mock.patch.object(toxiproxy_config, "MOST_BYTES", 3):
            self.assertIn("larger than 3", str(self.assertRaises(ValueError, self.read, "[   ]")))
        self.assertRaises(OSError, read_proxies, self.mktemp())
