"""Tests of toxiproxy's API over a running forwarder."""
