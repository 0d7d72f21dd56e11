// What a program does while its server is slow or away: run `portfwd toxiproxy`, then `node --test`.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

const api = process.env.TOXIPROXY ?? "http://localhost:8474";
let real;
let server;

// Ask the API; toxiproxy-node-client and every other client of toxiproxy's does the same.
async function call(method, path, body) {
  const answer = await fetch(api + path, { method, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, text);
  return text ? JSON.parse(text) : null;
}

// The program under test: it asks a server, and has so many milliseconds for it.
async function program(patience = 10000) {
  const answer = await fetch(`http://${server}/`, {
    headers: { connection: "close" },
    signal: AbortSignal.timeout(patience),
  });
  return answer.text();
}

before(async () => {
  real = createServer((request, response) => response.end("hello"));
  await new Promise((listening) => real.listen(0, "127.0.0.1", listening));
  const upstream = `127.0.0.1:${real.address().port}`;
  const proxy = await call("POST", "/proxies", { name: "hello-node", listen: "localhost:0", upstream });
  server = proxy.listen;
});

after(async () => {
  await call("DELETE", "/proxies/hello-node");
  real.close();
});

test("without a toxic the proxy changes nothing", async () => {
  assert.equal(await program(), "hello");
});

test("a server that takes a minute is given up", async () => {
  await call("POST", "/proxies/hello-node/toxics", { type: "latency", attributes: { latency: 60000 } });
  await assert.rejects(program(500), { name: "TimeoutError" });
  await call("POST", "/reset");
  assert.equal(await program(), "hello");
});

test("a server that is down refuses", async () => {
  await call("PATCH", "/proxies/hello-node", { enabled: false });
  await assert.rejects(program(), (error) => error.cause.code === "ECONNREFUSED");
  await call("PATCH", "/proxies/hello-node", { enabled: true });
  assert.equal(await program(), "hello");
});
