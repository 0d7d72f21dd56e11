# -*- test-case-name: tests.cli -*-
"""
The ``portfwd`` command: examines rules files and filters, runs forwarders, and controls running ones.

Each file has one command or a few similar ones; `main` combines them. Exit codes: 0 for success, 1 if a file
cannot be read or written or a forwarder cannot be reached, 2 if a rules file or the command line is wrong.
Except for `run`, `toxiproxy`, `replay` and the connection to a control socket, commands do not bind, resolve
or connect, and do not import Twisted's reactor, so they are safe to run beside a forwarder. Filters of rules
files are imported.
"""
