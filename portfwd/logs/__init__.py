# -*- test-case-name: tests.logs -*-
"""
Saying what happened: one line for each session, in the form the user chose.

`text_line`, `json_line`, `tab_line` and `common_line` turn a `SessionSummary` into a line and do
nothing else; `LineWriter` brings lines to a file without ever making the
caller wait; `AccessLog` joins the two.

Events and failures of the program are no business of this room: they go
through twisted.logger, which costs too much for a line a connection.
"""
