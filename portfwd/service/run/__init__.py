"""The forwarder at work: start, reload, drain, stop, and what is measured meanwhile."""
