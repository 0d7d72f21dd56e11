"""Prints the three sessions that have moved most."""

import json
import socket

with socket.socket(socket.AF_UNIX) as control:
    control.connect("admin.sock")
    lines = control.makefile("rw", newline="\n")
    greeting = json.loads(lines.readline())
    assert greeting["protocol"] == 1
    lines.write("sessions sort=bytes limit=3\n")
    lines.flush()
    answer = json.loads(lines.readline())

if not answer["ok"]:
    raise SystemExit(answer["message"])
for session in answer["result"]["sessions"]:
    print(session["id"], session["client"], session["to_client"]["bytes"])
