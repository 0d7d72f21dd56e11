# -*- test-case-name: tests.cli -*-
"""
The ``portfwd`` command: asks about rules files and filters, and steers forwarders that run.

One file a command, or a few that are alike; `main` joins them. Exit codes are 0
when all is well, 1 when a file cannot be read or written, or a forwarder not be
reached, 2 when a rules file or the command line is wrong. But for `replay`, and
for the control socket of a forwarder, nothing is bound, resolved or connected to,
and Twisted's reactor is never imported by us: a check must be safe to run beside
the forwarder itself. What a rules file names as a filter is imported.
"""
