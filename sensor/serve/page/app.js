// The list of alerts: loaded in pages, drawn only where it is seen, kept live by server-sent events.
// Whatever comes from the server becomes text, never markup.
"use strict";

const ROW = 64;
const AHEAD = 10;
const KEPT = 200000;
const byId = (id) => document.getElementById(id);
const list = byId("list"), rows = byId("rows"), state = byId("state"), live = byId("live");
const fresh = byId("fresh"), filters = byId("filters"), frame = byId("frame"), help = byId("help");

let alerts = [];        // newest first
let known = new Map();  // id -> alert
let more = true;
let loading = null;
let chosen = null;      // the id of the alert that is chosen
let shown = null;       // the id of the alert whose report is shown
let unseen = 0;
let source = null;
let generation = 0;     // of the filters: answers to older questions are dropped

function query(extra) {
  const parameters = new URLSearchParams(new FormData(filters));
  for (const [name, value] of [...parameters]) if (!value) parameters.delete(name);
  for (const [name, value] of Object.entries(extra)) parameters.set(name, value);
  return parameters;
}

// --- loading --------------------------------------------------------------------------------------

async function load() {
  if (loading || !more) return loading;
  const asked = generation;
  loading = (async () => {
    const last = alerts.at(-1);
    const first = !last;
    try {
      const answer = await fetch(`/api/alerts?${query(last ? { before: last.id } : {})}`);
      const page = await answer.json().catch(() => ({ error: answer.statusText }));
      if (asked !== generation) return;
      if (answer.status === 410) return void restart();
      if (!answer.ok) throw new Error(page.error || "not signed in any more");
      for (const alert of page.alerts) {
        if (!known.has(alert.id)) { known.set(alert.id, alert); alerts.push(alert); }
      }
      more = page.more && alerts.length < KEPT;
      if (first) follow(page.change);
      say();
    } catch (error) {
      if (asked !== generation) return;
      more = false;
      say(error.message);
      setTimeout(() => { if (asked === generation) { more = true; loading = null; load(); } }, 3000);
    }
  })();
  await loading;
  if (asked !== generation) return;
  loading = null;
  draw();
}

function restart() {
  generation += 1;
  alerts = []; known = new Map(); more = true; loading = null; unseen = 0;
  if (source) source.close();
  source = null;
  list.scrollTop = 0;
  draw();
  load();
}

function follow(change) {
  const asked = generation;
  source = new EventSource(`/api/stream?${query({ after: change })}`);
  source.onopen = () => { live.textContent = "live"; live.classList.add("on"); };
  source.onerror = () => { live.textContent = "connecting"; live.classList.remove("on"); };
  source.addEventListener("alert", (event) => { if (asked === generation) take(JSON.parse(event.data)); });
  source.addEventListener("reload", () => { if (asked === generation) restart(); });
}

function take(alert) {
  const before = known.get(alert.id);
  if (before) {
    Object.assign(before, alert);
  } else {
    let at = 0;
    while (at < alerts.length && later(alerts[at], alert)) at += 1;
    if (at === alerts.length && more) return;  // it comes with its page
    alerts.splice(at, 0, alert);
    known.set(alert.id, alert);
    // What is being read stays where it is.
    if (at * ROW < list.scrollTop) { rows.style.height = `${alerts.length * ROW}px`; list.scrollTop += ROW; unseen += 1; }
  }
  say();
  draw();
}

function later(one, other) {
  return one.time !== other.time ? one.time > other.time : one.sequence > other.sequence;
}

function say(error) {
  state.classList.toggle("failed", Boolean(error));
  const count = alerts.length.toLocaleString("en");
  const noun = alerts.length === 1 ? "alert" : "alerts";
  state.textContent = error || (alerts.length ? `${count} ${noun}${more ? " loaded, more below" : ""}` : more ? "loading" : "no alert matches");
  fresh.hidden = unseen === 0;
  fresh.textContent = `${unseen} new ↑`;
}

// --- drawing --------------------------------------------------------------------------------------

function draw() {
  rows.style.height = `${alerts.length * ROW}px`;
  const from = Math.max(0, Math.floor(list.scrollTop / ROW) - AHEAD);
  const to = Math.min(alerts.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AHEAD);
  rows.replaceChildren(...alerts.slice(from, to).map((alert, index) => row(alert, from + index)));
  const active = chosen && byId(`a-${chosen}`);
  if (active) list.setAttribute("aria-activedescendant", active.id);
  else list.removeAttribute("aria-activedescendant");
  if (to + AHEAD >= alerts.length && more) load();
}

function row(alert, index) {
  const element = make("div", "row");
  element.id = `a-${alert.id}`;
  element.dataset.id = alert.id;
  element.style.top = `${index * ROW}px`;
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", String(alert.id === chosen));
  element.setAttribute("aria-posinset", String(index + 1));
  element.setAttribute("aria-setsize", more ? "-1" : String(alerts.length));
  const times = alert.execs > 1 ? ` ×${alert.execs}` : "";
  const severity = alert.kind === "alert" ? alert.severity : alert.kind;
  const when = make("time", "when", clock(alert.time));
  when.dateTime = new Date(alert.time).toISOString();
  when.title = when.dateTime;
  element.append(
    line("line", make("span", "command", alert.command + times), when),
    line("line about", make("span", `severity ${alert.severity}`, severity), make("span", "rule", alert.rule),
      make("span", "where", [alert.user, alert.container || alert.pod].filter(Boolean).join(" @ "))),
  );
  return element;
}

function line(name, ...parts) {
  const element = make("div", name);
  element.append(...parts);
  return element;
}

function make(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function clock(time) {
  const date = new Date(time), text = date.toISOString();
  const today = text.slice(0, 10) === new Date().toISOString().slice(0, 10);
  return today ? text.slice(11, 19) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
}

// --- choosing and reading -------------------------------------------------------------------------

function choose(index) {
  if (!alerts.length) return;
  index = Math.max(0, Math.min(alerts.length - 1, index));
  chosen = alerts[index].id;
  const top = index * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  draw();
}

function read() {
  if (!chosen) return;
  const path = `/alert/${encodeURIComponent(chosen)}`;
  if (matchMedia("(max-width: 900px)").matches) return void location.assign(path);
  if (shown !== chosen) {
    shown = chosen;
    // Not into the history: Back leaves the page, as one expects.
    frame.contentWindow.location.replace(path);
  }
  byId("empty").hidden = true;
  frame.hidden = byId("tools").hidden = false;
  byId("open").href = path;
  byId("markdown").href = `${path}?format=markdown`;
  byId("json").href = `${path}?format=json`;
}

const position = () => alerts.findIndex((alert) => alert.id === chosen);
const screen = () => Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
const keys = {
  j: () => choose(position() + 1),
  ArrowDown: () => choose(position() + 1),
  k: () => choose(position() - 1),
  ArrowUp: () => choose(position() - 1),
  PageDown: () => choose(position() + screen()),
  PageUp: () => choose(position() - screen()),
  g: () => choose(0),
  Home: () => choose(0),
  G: () => { choose(alerts.length - 1); load(); },
  End: () => { choose(alerts.length - 1); load(); },
  Enter: () => { read(); frame.focus(); },
  "/": () => filters.elements.container.focus(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.key === "Escape") return void list.focus();
  if (event.target.closest("input, select, button, a")) return;
  const act = Object.hasOwn(keys, event.key) && keys[event.key];
  if (!act) return;
  event.preventDefault();
  if (event.key !== "/" && event.key !== "?") list.focus({ preventScroll: true });
  act();
});

list.addEventListener("scroll", () => {
  if (list.scrollTop < ROW && unseen) { unseen = 0; say(); }
  requestAnimationFrame(draw);
});
rows.addEventListener("click", (event) => {
  const element = event.target.closest(".row");
  if (!element) return;
  chosen = element.dataset.id;
  draw();
  read();
});
frame.addEventListener("load", () => {
  // Esc comes back out of the report, which runs no script of its own.
  frame.contentWindow?.addEventListener("keydown", (event) => { if (event.key === "Escape") list.focus(); });
});
fresh.addEventListener("click", () => { list.scrollTop = 0; unseen = 0; say(); list.focus(); });
byId("help-button").addEventListener("click", () => help.showModal());
let typing = 0;
filters.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(restart, 250); });
filters.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); restart(); });
addEventListener("resize", () => requestAnimationFrame(draw));

(async () => {
  restart();
  list.focus();
  try {
    const { rules } = await (await fetch("/api/rules")).json();
    for (const rule of rules) {
      const option = make("option", "", `${rule.name} (${rule.alerts.toLocaleString("en")})`);
      option.value = rule.id;
      filters.elements.rule.append(option);
    }
  } catch { /* the list says what is wrong */ }
})();
