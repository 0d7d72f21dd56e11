"""The running forwarder: start, reload, drain, stop, and metrics."""
