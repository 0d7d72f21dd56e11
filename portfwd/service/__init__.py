"""Assembles a forwarder: options of twistd, objects of rules, start, reload, drain and stop."""
