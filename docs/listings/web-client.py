"""Kills the sessions of one client, and prints how many there were."""

import json
from http.client import HTTPConnection

with open("web-token") as file:
    headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
connection = HTTPConnection("127.0.0.1", 9102)
connection.request("POST", "/api/v1/kill", json.dumps({"client": "192.0.2.7"}), headers)
answer = json.load(connection.getresponse())

if not answer["ok"]:
    raise SystemExit(answer["message"])
print(answer["result"]["killed"])
