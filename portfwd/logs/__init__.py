# -*- test-case-name: tests.logs -*-
"""
The access log: lines for each session in the configured format.

`text_line`, `json_line`, `tab_line` and `common_line` format a `SessionSummary`. `LineWriter` writes lines to
a file without blocking the caller. `AccessLog` joins the two.

Events and failures of the program are logged by twisted.logger, which would cost too much for one line per
connection.
"""
