"""The control socket and the manhole, joined to a running forwarder."""
