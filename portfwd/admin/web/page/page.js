// The page of the web listener: it asks the API of the same listener, and shows what comes as text.
// Nothing here makes markup of text: elements are made by `make`, and their content by `textContent`.

const API = "/api/v1/";
const SAMPLES = 120; // looks that charts keep
const ROWS = 25; // sessions of a page
const LISTED = 50; // rules and targets of a page
const SLOW = 2000; // milliseconds between two looks at rules, targets, faults and changes
const KEPT_CHANGES = 200;

const byId = (id) => document.getElementById(id);
const state = {
  operator: false, held: false, rows: [], rates: new Map(), histories: new Map(),
  sessions: { sort: "rate", start: 0, count: 0, filter: {} },
  rules: { start: 0 }, targets: { start: 0 }, change: 0, total: null,
};

// Elements

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const text = (value) => (value === null || value === undefined || value === "" ? "–" : String(value));
const pill = (word, tone) => make("span", { class: `pill ${tone}`, text: word });
const button = (words, press, properties = {}) =>
  make("button", { type: "button", class: "small", text: words, onclick: (event) => { event.stopPropagation(); press(); }, ...properties });

// Figures

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1024;
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}
const rate = (bytes) => `${size(bytes)}/s`;
const grouped = (number) => number.toLocaleString("en-GB");
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : `${m} min ${s} s`;
}
const micro = (value) => (value === null || value === undefined ? "–" : value < 1000 ? `${value} µs` : value < 1e6 ? `${(value / 1000).toFixed(value < 1e4 ? 1 : 0)} ms` : `${(value / 1e6).toFixed(1)} s`);

// Charts: one line and the area below it, drawn into 100 by 100

const SVG = "http://www.w3.org/2000/svg";
function drawing(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", name);
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const part of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", part);
    svg.append(path);
  }
  return svg;
}
function draw(svg, samples, most = SAMPLES) {
  const top = Math.max(...samples, 1e-9) * 1.1;
  const step = 100 / (most - 1);
  const points = samples.map((value, place) => `${(100 - (samples.length - 1 - place) * step).toFixed(2)} ${(98 - (value / top) * 96).toFixed(2)}`);
  const first = (100 - (samples.length - 1) * step).toFixed(2);
  const line = points.length ? `M${points.join("L")}` : "";
  svg.children[1].setAttribute("d", line);
  svg.children[0].setAttribute("d", points.length ? `${line}L100 100L${first} 100Z` : "");
}
function remember(samples, value, most = SAMPLES) {
  samples.push(value);
  if (samples.length > most) samples.shift();
}

const tiles = {};
function makeTile(key, name, tone, show) {
  const value = make("span");
  const more = make("div", { class: "more" });
  const svg = drawing(`chart ${tone}`);
  byId("tiles").append(make("div", { class: "tile", id: `tile-${key}` }, make("div", { class: "name", text: name }), make("div", { class: "value" }, value), svg, more));
  tiles[key] = { samples: [], add(figure, words) {
    remember(this.samples, figure);
    if (state.held) return;
    value.textContent = show(figure);
    more.textContent = words ?? `at most ${show(Math.max(...this.samples))}`;
    draw(svg, this.samples);
  } };
}
makeTile("sessions", "Open sessions", "up", (value) => grouped(value));
makeTile("opened", "New sessions", "down", (value) => `${grouped(Math.round(value * 10) / 10)}/s`);
makeTile("up", "To upstreams", "up", rate);
makeTile("down", "To clients", "down", rate);

// Tables: rows are used again, so that focus stays where it is

class Table {
  constructor(id, columns, { empty, sort, pick } = {}) {
    this.columns = columns;
    this.empty = empty;
    this.pick = pick;
    this.body = make("tbody");
    this.heads = columns.map((column) => {
      const cell = make("th", { scope: "col", title: column.hint, class: (column.class ?? "").split(" ").filter((word) => word === "num" || word === "wide").join(" ") });
      if (column.sort) cell.append(make("button", { type: "button", text: column.title, onclick: () => sort(column.sort) }));
      else cell.textContent = column.title;
      return cell;
    });
    byId(id).append(make("thead", {}, make("tr", {}, ...this.heads)), this.body);
  }

  sorted(by) {
    this.columns.forEach((column, place) => {
      if (column.sort === by) this.heads[place].setAttribute("aria-sort", "descending");
      else this.heads[place].removeAttribute("aria-sort");
    });
  }

  show(rows) {
    if (!rows.length) {
      this.body.replaceChildren(make("tr", { class: "empty" }, make("td", { colspan: this.columns.length, text: this.empty })));
      return;
    }
    this.body.querySelector(".empty")?.remove();
    while (this.body.children.length > rows.length) this.body.lastElementChild.remove();
    while (this.body.children.length < rows.length) {
      const line = make("tr", this.pick ? { tabindex: "0" } : {}, ...this.columns.map((column) => make("td", { class: column.class ?? "" })));
      if (this.pick) {
        line.addEventListener("click", () => this.pick(line.shown));
        line.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === line) this.pick(line.shown); });
      }
      this.body.append(line);
    }
    rows.forEach((row, place) => {
      const line = this.body.children[place];
      line.shown = row;
      this.columns.forEach((column, cell) => this.fill(line.children[cell], column, row));
    });
  }

  fill(cell, column, row) {
    const value = column.value(row);
    const key = column.key ? column.key(row) : typeof value === "string" ? value : null;
    if (key !== null && cell.key === key) return;
    cell.key = key;
    if (value instanceof Node) cell.replaceChildren(value);
    else {
      cell.textContent = value;
      if ((column.class ?? "").includes("clip")) cell.title = value;
    }
  }
}

const STATES = { accepting: "good", paused: "warn", closed: "bad", up: "good", starting: "info", drain: "warn", down: "bad", relaying: "good", dialing: "info", handshaking: "info", peeking: "info", closing: "warn" };
const stated = (title = "State") => ({ title, value: (row) => pill(row.state, STATES[row.state] ?? ""), key: (row) => row.state });

const rulesTable = new Table("rules-table", [
  { title: "Rule", class: "name clip", value: (row) => row.name },
  { title: "Listens on", class: "addr clip wide", value: (row) => row.listen.join(", ") || "–" },
  stated(),
  { title: "Sessions", class: "num", value: (row) => grouped(row.sessions) },
  { title: "Trend", hint: "Sessions in the last two minutes", class: "wide", value: (row) => row.spark, key: (row) => row.name },
  { title: "", class: "num", value: ruleActions, key: (row) => `${row.name} ${row.state} ${state.operator}` },
], { empty: "There are no rules." });

function ruleActions(row) {
  if (!state.operator) return make("span");
  const steer = (word, question, words, done) => button(words, () => ask(`${words} the rule ${row.name}?`, question, words, () => post(word, { rule: row.name }, `The rule ${row.name} is ${done}.`)));
  return make("span", { class: "acts" },
    row.state === "accepting" ? steer("pause", "New connections wait in the backlog until it is resumed. Its open sessions go on.", "Pause", "paused") : steer("resume", "It accepts connections again.", "Resume", "accepting"),
    ...(row.state === "closed" ? [] : [steer("drain", "Its listeners are closed. Its open sessions go on until they end.", "Drain", "draining")]));
}

const targetsTable = new Table("targets-table", [
  { title: "Target", class: "clip", value: targetName, key: (row) => `${row.target} ${targetCause(row)}` },
  { title: "Rule", class: "clip", value: (row) => (row.name ? `${row.rule} (${row.name})` : row.rule) },
  { title: "State", value: targetState, key: (row) => JSON.stringify([row.state, row.cause, row.ordered, row.checks]) },
  { title: "Share", hint: "Its part of new sessions", class: "wide", value: share, key: (row) => `${row.share} ${row.backup}` },
  { title: "Sessions", class: "num wide", value: (row) => grouped(row.sessions) },
  { title: "Failed", hint: "Dials that failed", class: "num wide", value: (row) => make("span", { class: row.failures ? "bad" : "dim", title: `of ${grouped(row.dials)} dials`, text: grouped(row.failures) }), key: (row) => `${row.failures} ${row.dials}` },
  { title: "", class: "num", value: targetActions, key: (row) => `${row.rule} ${row.target} ${row.ordered} ${row.state} ${state.operator}` },
], { empty: "There are no targets." });

function targetCause(row) {
  const problems = row.checks.map((check) => check.problem).filter(Boolean).map((problem) => `now ${problem}`);
  return [row.ordered ? "by an operator" : row.cause, ...problems].filter(Boolean).join("; ");
}
function targetName(row) {
  const cause = targetCause(row);
  return make("span", { class: "named" }, make("span", { class: "addr", title: row.target, text: row.target }), cause ? make("small", { class: "cause", title: cause, text: cause }) : "");
}
function targetState(row) {
  const words = [row.ordered ? "by an operator" : row.cause, row.since === null ? "" : `for ${span(row.since)}`, ...row.checks.map((check) => `${check.name}: ${check.passing === null ? "no verdict yet" : check.passing ? "passes" : check.cause || "fails"}`)];
  const made = pill(row.state, STATES[row.state] ?? "");
  made.title = words.filter(Boolean).join("; ");
  return made;
}
function share(row) {
  const bar = make("i");
  bar.style.width = `${Math.round(row.share * 100)}%`;
  return make("span", {}, make("span", { class: "share", title: `${Math.round(row.share * 100)} % of new sessions` }, bar), row.backup ? make("span", { class: "dim backup", text: "backup" }) : "");
}
function targetActions(row) {
  if (!state.operator) return make("span");
  const order = (word, question, words, done) => button(words, () => ask(`${words} ${row.target} of the rule ${row.rule}?`, question, words, () => post("target", { rule: row.rule, target: row.target, state: word }, `${row.rule}: ${row.target} is ${done}.`)));
  if (row.ordered) return make("span", { class: "acts" }, order("auto", "Checks and dials decide about it again, in this rule only.", "Release", "judged by checks and dials"));
  return make("span", { class: "acts" }, order("drain", "New sessions of this rule go to other targets. Its open sessions may finish. Other rules with this target are not changed.", "Drain", "draining"), order("down", "It gets no sessions of this rule, whatever checks say. Its open sessions may finish; with on-down=close they are closed within a second. Other rules with this target are not changed.", "Down", "down"));
}

const pair = (value, show) => `${show(value?.client)} / ${show(value?.upstream)}`;
const sessionsTable = new Table("sessions-table", [
  { title: "Id", sort: "id", class: "num dim", value: (row) => String(row.id) },
  { title: "Rule", class: "name clip", value: (row) => row.rule },
  { title: "Client", class: "addr clip", value: (row) => text(row.client) },
  { title: "Upstream", class: "addr clip wide", value: (row) => text(row.upstream) },
  { ...stated(), class: "wide" },
  { title: "Age", sort: "age", class: "num wide", value: (row) => span(row.duration) },
  { title: "To upstream", sort: "to-upstream-rate", class: "num wide", value: (row) => rate(row.to_upstream_rate) },
  { title: "To client", sort: "to-client-rate", class: "num wide", value: (row) => rate(row.to_client_rate) },
  { title: "Rate", sort: "rate", class: "num", value: (row) => rate(row.to_upstream_rate + row.to_client_rate) },
  { title: "Bytes", sort: "bytes", class: "num", value: (row) => size(row.bytes) },
  { title: "Round trip", hint: "Of the client and of the upstream, as the kernel measures it", class: "num dim wide", value: (row) => pair(row.rtt_us, micro) },
  { title: "Retransmits", hint: "Segments sent again to the client and to the upstream", class: "num wide", value: (row) => pair(row.retransmits, text) },
], { empty: "No session is open that fits.", sort: sortSessions, pick: (row) => openDetail(row.id) });

const faultsTable = new Table("faults-table", [
  { title: "Rule", class: "name clip", value: (row) => row.rule },
  { title: "No.", class: "num dim", value: (row) => String(row.number) },
  { title: "Kind", value: (row) => row.kind },
  { title: "Options", class: "wide", value: (row) => make("span", { class: "chips" }, ...Object.entries(row.options).map(([key, value]) => make("span", { class: "chip", text: `${key}=${value}` }))), key: (row) => JSON.stringify(row.options) },
  { title: "Affected", hint: "Connections that the fault affects, of those that it could affect while it was on", class: "num", value: (row) => `${grouped(row.affected)} of ${grouped(row.connections)}` },
  { title: "State", value: (row) => pill(row.active ? "on" : "off", row.active ? "warn" : ""), key: (row) => String(row.active) },
  { title: "", class: "num", value: faultActions, key: (row) => `${row.rule} ${row.number} ${row.active} ${state.operator}` },
], { empty: "There are no faults." });

function faultActions(row) {
  if (!state.operator) return make("span");
  const word = row.active ? "off" : "on";
  return button(`Switch ${word}`, () => ask(`Switch ${row.kind} of ${row.rule} ${word}?`, row.active ? "It affects no connection any more. Bytes that it holds are sent." : "It affects new connections, and open ones from their next bytes on.", `Switch ${word}`, () => post("faults", { rule: row.rule, what: word, which: String(row.number) }, `${row.rule}: the fault ${row.kind} is ${word}.`)));
}

// The API

const token = { get: () => sessionStorage.getItem("token"), set: (value) => (value ? sessionStorage.setItem("token", value) : sessionStorage.removeItem("token")) };
const headers = () => (token.get() ? { Authorization: `Bearer ${token.get()}` } : {});

class ApiError extends Error {
  constructor(answer, status) {
    super(answer.message ?? `the answer is ${status}`);
    this.status = status;
    this.lines = answer.lines ?? [];
  }
}

async function call(path, options = {}) {
  const response = await fetch(API + path, { ...options, cache: "no-store", redirect: "error", headers: { ...headers(), ...options.headers } });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok || answer.ok === false) {
    if (response.status === 401) signIn(token.get() ? "That is not the token." : "");
    throw new ApiError(answer, response.status);
  }
  return answer.result ?? answer;
}
const look = (name, query = {}) => call(`${name}?${new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== undefined))}`);

async function post(name, body, done) {
  try {
    const result = await call(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (done) say(typeof done === "function" ? done(result) : done);
    soon();
    return result;
  } catch (problem) {
    say([problem.message, ...(problem.lines ?? [])].join("\n"), true);
    return null;
  }
}

// A stream of events by fetch, since EventSource sends no token
class Stream {
  constructor(query, heard) {
    this.query = query;
    this.heard = heard;
    this.wait = 500;
    this.run();
  }

  async run() {
    while (!this.ended) {
      this.abort = new AbortController();
      try {
        const response = await fetch(`${API}top?${new URLSearchParams(this.query)}`, { headers: headers(), signal: this.abort.signal, cache: "no-store" });
        if (!response.ok) {
          const answer = await response.json().catch(() => ({}));
          throw new ApiError(answer, response.status);
        }
        await this.read(response.body.getReader());
      } catch (problem) {
        if (this.ended) return;
        if (problem instanceof ApiError) {
          if (problem.status === 401) { signIn(token.get() ? "That is not the token." : ""); return; }
          if (problem.status < 500) { filterProblem(problem.message); return; }
        }
      }
      if (this.ended) return;
      connected(false);
      await new Promise((go) => setTimeout(go, this.wait));
      this.wait = Math.min(this.wait * 2, 10000);
    }
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += decoder.decode(value, { stream: true });
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const lines = buffer.slice(0, end).split("\n");
        buffer = buffer.slice(end + 2);
        const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (!data || lines.includes("event: end") || this.ended) continue;
        this.wait = 500;
        connected(true);
        this.heard(JSON.parse(data));
      }
    }
  }

  end() {
    this.ended = true;
    this.abort?.abort();
  }
}

// Sessions and overview: one stream, and a second one for the overview while the first is filtered

let sessionStream = null;
let overviewStream = null;

function watch() {
  const { sort, start, filter } = state.sessions;
  const wanted = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
  const filtered = Object.keys(wanted).length > 0;
  sessionStream?.end();
  overviewStream?.end();
  overviewStream = filtered ? new Stream({ limit: 1, interval: "1s" }, overview) : null;
  sessionStream = new Stream({ limit: ROWS, start, sort, interval: "1s", ...wanted }, (event) => {
    filterProblem("");
    if (!filtered) overview(event);
    state.sessions.count = event.sessions;
    if (event.start >= event.sessions && event.start > 0) { state.sessions.start = 0; watch(); return; }
    state.rows = event.rows;
    if (state.held) return;
    sessionsTable.show(event.rows);
    byId("sessions-count").textContent = grouped(event.sessions);
    byId("kill-all").hidden = !(state.operator && filtered && event.sessions);
    byId("kill-all").textContent = `Kill these ${grouped(event.sessions)}`;
    pager("sessions", start, event.rows.length, event.sessions, ROWS, (place) => { state.sessions.start = place; watch(); });
  });
  sessionsTable.sorted(sort);
}

function overview(event) {
  const status = event.status;
  const now = performance.now() / 1000;
  if (state.total !== null && status.total >= state.total) tiles.opened.add((status.total - state.total) / Math.max(now - state.totalAt, 0.1), `${grouped(status.total)} since the start`);
  state.total = status.total;
  state.totalAt = now;
  tiles.sessions.add(status.sessions);
  tiles.up.add(event.to_upstream_rate);
  tiles.down.add(event.to_client_rate);
  const draining = status.state !== "running";
  byId("connection").textContent = draining ? status.state : "live";
  byId("connection").className = `pill ${draining ? "warn" : "good"}`;
  byId("footer").replaceChildren(...[`portfwd ${status.version}`, `process ${status.pid}, up ${span(status.uptime)}`, `${grouped(status.rules)} rules`, `${grouped(status.descriptors)} descriptors`, `${status.reloads} reloads, ${status.reload_failures} refused`, `log level ${status.log_level}`, ...status.files].map((words) => make("span", { text: words })));
  notice(status.last_reload_refused ? "The last reload was refused: the rules file is not what is at work. The log says why." : "");
}

function sortSessions(by) {
  state.sessions.sort = by;
  state.sessions.start = 0;
  watch();
}

function pager(name, start, shown, count, step, go) {
  const place = byId(`${name}-pager`);
  const more = count === null ? shown >= step : start + shown < count;
  const key = `${start} ${shown} ${count} ${more}`;
  if (place.key === key) return;
  place.key = key;
  if (start === 0 && !more) { place.replaceChildren(); return; }
  const move = (to, words, can, label) => button(words, () => go(to), { "aria-label": label, disabled: !can });
  place.replaceChildren(
    make("span", { text: `${grouped(start + 1)}–${grouped(start + shown)}${count === null ? "" : ` of ${grouped(count)}`}` }),
    move(Math.max(0, start - step), "‹", start > 0, "page before"), move(start + step, "›", more, "next page"));
}

// Rules, targets, faults and changes: looked at now and then

let timer = 0;
async function slowly() {
  clearTimeout(timer);
  try {
    await Promise.all([showRules(), showTargets(), showFaults(), showChanges()]);
  } catch (problem) {
    if (!(problem instanceof ApiError)) connected(false);
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(slowly, SLOW);
}
const soon = () => { clearTimeout(timer); timer = setTimeout(slowly, 50); };

async function showRules() {
  const { rules, count, start } = await look("rules", { start: state.rules.start, limit: LISTED });
  if (state.held) return;
  for (const row of rules) {
    const kept = state.histories.get(row.name) ?? { samples: [], svg: drawing("spark") };
    state.histories.set(row.name, kept);
    remember(kept.samples, row.sessions, 60);
    draw(kept.svg, kept.samples, 60);
    row.spark = kept.svg;
  }
  const names = new Set(rules.map((row) => row.name));
  for (const name of state.histories.keys()) if (!names.has(name)) state.histories.delete(name);
  rulesTable.show(rules);
  byId("rules-count").textContent = grouped(count);
  byId("rule-names").replaceChildren(...[...new Set(rules.map((row) => row.rule))].map((name) => make("option", { value: name })));
  pager("rules", start, rules.length, count, LISTED, (place) => { state.rules.start = place; soon(); });
}

async function showTargets() {
  const { targets, start, more } = await look("targets", { start: state.targets.start, limit: LISTED });
  if (state.held) return;
  targetsTable.show(targets);
  const down = targets.filter((row) => row.state === "down").length;
  byId("targets-count").textContent = down ? `${down} down` : "";
  pager("targets", start, targets.length, more ? null : start + targets.length, LISTED, (place) => { state.targets.start = place; soon(); });
}

async function showFaults() {
  const { faults } = await look("faults");
  if (state.held) return;
  byId("faults").hidden = byId("faults-link").hidden = !faults.length;
  const on = faults.filter((row) => row.active).length;
  byId("faults-count").textContent = `${on} of ${faults.length} on`;
  if (faults.length) faultsTable.show(faults);
}

async function showChanges() {
  const { changes, last } = await look("changes", { after: state.change });
  if (last < state.change) byId("changes-list").replaceChildren(); // another process
  state.change = last;
  const list = byId("changes-list");
  for (const one of changes) {
    const when = new Date(one.time);
    list.prepend(make("li", { class: one.level }, make("time", { datetime: one.time, title: one.time, text: when.toLocaleTimeString("en-GB") }), make("span", { text: one.text })));
  }
  while (list.children.length > KEPT_CHANGES) list.lastElementChild.remove();
}

// One session

let detailTimer = 0;
async function openDetail(id) {
  const dialog = byId("detail");
  clearTimeout(detailTimer);
  let session = null;
  try {
    ({ session } = await call(`session/${id}`));
  } catch (problem) {
    if (problem.status !== 404) { say(problem.message, true); return; }
    if (!dialog.open) { say(`Session ${id} is closed.`); return; }
  }
  if (session === null) {
    byId("detail-state").textContent = "closed";
    byId("detail-state").className = "pill";
    byId("detail-kill").hidden = true;
    return;
  }
  byId("detail-title").textContent = `Session ${session.id}`;
  byId("detail-state").textContent = session.state;
  byId("detail-state").className = `pill ${STATES[session.state] ?? ""}`;
  byId("detail-kill").hidden = !state.operator;
  byId("detail-kill").onclick = () => killOne(session);
  byId("detail-body").replaceChildren(...detail(session));
  if (!dialog.open) dialog.showModal();
  dialog.shown = id;
  detailTimer = setTimeout(() => { if (dialog.open && dialog.shown === id) openDetail(id); }, SLOW);
}

function detail(session) {
  const step = (name, value) => make("div", {}, make("small", { text: name }), make("span", { class: "addr", text: text(value) }));
  const parts = [make("div", { class: "path" }, step("client", session.client), make("span", { class: "dim", text: "→" }), step(session.rule, session.local), make("span", { class: "dim", text: "→" }), step("upstream", session.upstream))];
  const verdict = whoIsSlow(session);
  if (verdict) parts.push(make("div", { class: `verdict ${verdict.tone}`, text: verdict.words }));
  parts.push(sides("Bytes", ["to upstream", "to client"], [
    ["bytes", size(session.to_upstream.bytes), size(session.to_client.bytes)],
    ["reads and writes", ...[session.to_upstream, session.to_client].map((flow) => `${grouped(flow.reads)} and ${grouped(flow.writes)}`)],
    ["bytes a call", ...[session.to_upstream, session.to_client].map((flow) => text(flow.bytes_per_call))],
    ["waited for the reader", ...[session.to_upstream, session.to_client].map((flow) => (flow.paused ? span(flow.paused) : "–"))],
    ["waited for bandwidth=", ...[session.to_upstream, session.to_client].map((flow) => (flow.paced ? span(flow.paced) : "–"))],
  ]));
  const kernel = session.tcp_info;
  if (kernel && (kernel.client || kernel.upstream)) {
    const both = (name, key, show = text) => [name, show(kernel.client?.[key]), show(kernel.upstream?.[key])];
    const bytes = (value) => (value === null || value === undefined ? "–" : size(value));
    parts.push(sides("TCP, as the kernel sees it", ["client", "upstream"], [
      both("round trip", "rtt_us", micro), both("its variation", "rttvar_us", micro), both("shortest round trip", "min_rtt_us", micro),
      both("retransmits", "retransmits"), both("thought to be lost", "lost"), both("not acknowledged", "unacked"),
      both("congestion window", "cwnd"), both("not sent yet", "unsent", bytes),
      both("delivery rate", "delivery_rate", (value) => (value === null || value === undefined ? "–" : rate(value))),
      both("window was full", "rwnd_limited_us", micro), both("our buffer was full", "sndbuf_limited_us", micro),
    ]));
  }
  const more = [["opened", session.opened], ["age", span(session.duration)], ["relay", relayWords(session)], ["dialled in", session.connect_time === null ? "" : micro(Math.round(session.connect_time * 1e6))], ["first byte after", session.first_byte === null ? "" : micro(Math.round(session.first_byte * 1e6))]];
  for (const [name, tls] of [["TLS of the client", session.tls], ["TLS of the upstream", session.upstream_tls]]) {
    if (tls) more.push([name, [tls.version, tls.cipher, tls.server_name && `server name ${tls.server_name}`, tls.alpn && `ALPN ${tls.alpn}`, tls.client_name && `client ${tls.client_name}`, tls.resumed && "resumed"].filter(Boolean).join(", ")]);
  }
  for (const one of session.attempts ?? []) more.push([`tried ${one.target}`, one.cause]);
  for (const [key, value] of Object.entries(session.notes ?? {})) more.push([key, text(value)]);
  for (const [key, value] of Object.entries(session.dropped ?? {})) more.push([`dropped: ${key}`, grouped(value)]);
  parts.push(make("dl", { class: "pairs" }, ...more.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })])));
  return parts;
}

function relayWords(session) {
  const plan = session.plan;
  if (!plan) return session.relay;
  if (plan.relay === session.relay) return `${session.relay}: ${plan.why}`;
  if (plan.relay === "splice") return `${session.relay} so far; splice for larger amounts that no filter sees (${plan.why})`;
  return `${session.relay} (the rule's relay is ${plan.relay}: ${plan.why})`;
}

function sides(title, names, rows) {
  return make("div", {}, make("h3", { text: title }), make("table", { class: "sides" },
    make("thead", {}, make("tr", {}, make("th"), ...names.map((name) => make("th", { class: "num", text: name })))),
    make("tbody", {}, ...rows.map(([name, ...values]) => make("tr", {}, make("td", { text: name }), ...values.map((value) => make("td", { class: "num", text: value })))))));
}

function whoIsSlow(session) {
  const waited = { client: session.to_client.paused, upstream: session.to_upstream.paused };
  const long = Math.max(session.duration * 0.05, 0.2);
  const slow = waited.client >= waited.upstream ? "client" : "upstream";
  if (waited[slow] > long) return { tone: "warn", words: `The ${slow} is slow: the other side waited ${span(waited[slow])} for it.` };
  const kernel = session.tcp_info ?? {};
  const again = { client: kernel.client?.retransmits ?? 0, upstream: kernel.upstream?.retransmits ?? 0 };
  const lossy = again.client >= again.upstream ? "client" : "upstream";
  if (again[lossy] > 2) return { tone: "warn", words: `The path to the ${lossy} loses packets: ${grouped(again[lossy])} segments were sent again.` };
  const trips = [kernel.client?.rtt_us, kernel.upstream?.rtt_us];
  if (trips.some((value) => value === null || value === undefined)) return null;
  return { tone: "", words: `Neither side is slow. The ${trips[0] >= trips[1] ? "client" : "upstream"} is further away (${micro(Math.max(...trips))}).` };
}

const killOne = (session) => ask(`Kill session ${session.id}?`, `Both connections of ${text(session.client)} by the rule ${session.rule} are reset.`, "Kill", () => post("kill", { id: [session.id] }, `Session ${session.id} was killed.`));

// Questions, words, keys

function ask(title, question, yes, act, lines = []) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = question;
  byId("confirm-lines").hidden = !lines.length;
  byId("confirm-lines").textContent = lines.join("\n");
  byId("confirm-yes").textContent = yes;
  byId("confirm-yes").onclick = () => { dialog.close(); act(); };
  byId("confirm-no").onclick = () => dialog.close();
  dialog.showModal();
}

function say(words, bad = false) {
  const toast = make("div", { class: bad ? "toast bad" : "toast", text: words });
  byId("toasts").append(toast);
  setTimeout(() => toast.remove(), bad ? 10000 : 4000);
}
function notice(words) {
  byId("notice").hidden = !words;
  if (byId("notice").textContent !== words) byId("notice").textContent = words;
}
function filterProblem(words) {
  const field = byId("filter").elements.client;
  if (words && words !== field.validationMessage) { field.setCustomValidity(words); say(words, true); }
  if (!words) field.setCustomValidity("");
}
function connected(is) {
  if (is) return;
  byId("connection").textContent = "no connection";
  byId("connection").className = "pill bad";
}

function signIn(words) {
  sessionStream?.end();
  overviewStream?.end();
  clearTimeout(timer);
  byId("login-error").textContent = words;
  if (!byId("login").open) byId("login").showModal();
}
byId("login").addEventListener("cancel", (event) => event.preventDefault());
byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value.trim());
  byId("token").value = "";
  byId("login").close();
  begin();
});

byId("filter").addEventListener("submit", (event) => { event.preventDefault(); applyFilter(); });
byId("filter").addEventListener("reset", () => setTimeout(applyFilter));
byId("filter").elements.state.addEventListener("change", () => applyFilter());
function applyFilter() {
  const { rule, client, state: stood } = byId("filter").elements;
  client.setCustomValidity("");
  state.sessions.filter = { rule: rule.value.trim(), client: client.value.trim(), state: stood.value };
  state.sessions.start = 0;
  watch();
}

byId("kill-all").addEventListener("click", () => {
  const wanted = Object.fromEntries(Object.entries(state.sessions.filter).filter(([, value]) => value));
  const words = Object.entries(wanted).map(([key, value]) => `${key} ${value}`).join(", ");
  ask(`Kill ${grouped(state.sessions.count)} sessions?`, `All sessions with ${words} are reset, on every page of the list.`, "Kill", () => post("kill", wanted, (result) => `${grouped(result.killed)} sessions were killed.`));
});
byId("reload").addEventListener("click", async () => {
  const tried = await post("reload", { "dry-run": true });
  if (tried) ask("Reload the rules file?", "This is what would change. Sessions that are open go on.", "Reload", () => post("reload", {}, (result) => result.lines[0] ?? "The rules were read again."), tried.lines);
});
function hold() {
  state.held = !state.held;
  byId("freeze").setAttribute("aria-pressed", String(state.held));
  byId("freeze").textContent = state.held ? "Held" : "Hold";
}
byId("freeze").addEventListener("click", hold);
byId("help").addEventListener("click", () => byId("keys").showModal());
for (const one of document.querySelectorAll("[data-close]")) one.addEventListener("click", () => one.closest("dialog").close());
for (const dialog of document.querySelectorAll("dialog:not(#login)")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function move(by) {
  const lines = [...sessionsTable.body.querySelectorAll("tr[tabindex]")];
  const place = lines.indexOf(document.activeElement);
  lines[Math.min(Math.max(place + by, 0), lines.length - 1)]?.focus();
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
  const row = document.activeElement?.shown;
  const pages = byId("sessions-pager").querySelectorAll("button");
  const act = {
    "/": () => byId("filter").elements.client.focus(), j: () => move(1), k: () => move(-1), p: hold, "?": () => byId("keys").showModal(),
    x: () => { if (row?.id !== undefined && state.operator) killOne(row); }, n: () => pages[1]?.click(), b: () => pages[0]?.click(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});

// A page that nobody sees asks for nothing
document.addEventListener("visibilitychange", () => {
  if (byId("login").open) return;
  if (document.hidden) { sessionStream?.end(); overviewStream?.end(); clearTimeout(timer); }
  else { watch(); slowly(); }
});

async function begin() {
  try {
    if (!token.get() && (await (await fetch("/access.json", { cache: "no-store" })).json()).token) { signIn(""); return; }
    const { level } = await call("");
    state.operator = level === "operator";
    byId("level").hidden = false;
    byId("level").textContent = state.operator ? "operator" : "looking only";
    for (const one of document.querySelectorAll("header .operator")) one.hidden = !state.operator;
  } catch (problem) {
    if (problem.status === 401) return;
    connected(false);
    setTimeout(begin, 2000);
    return;
  }
  watch();
  slowly();
}
begin();
