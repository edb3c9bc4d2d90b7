"use strict";

// Times are shown in the reader's zone; the exact instant is in the title.
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

function fromNow(at) {
  const seconds = Math.round((at - Date.now()) / 1000);
  const [value, unit] = Math.abs(seconds) < 90 ? [seconds, "second"]
    : Math.abs(seconds) < 5400 ? [Math.round(seconds / 60), "minute"]
    : Math.abs(seconds) < 129600 ? [Math.round(seconds / 3600), "hour"]
    : [Math.round(seconds / 86400), "day"];
  return relative.format(value, unit);
}

function show(time) {
  const at = new Date(time.dateTime);
  if (isNaN(at)) return;
  const now = new Date();
  const date = at.toDateString() === now.toDateString() ? ""
    : (at.getFullYear() === now.getFullYear() ? day : dayOfYear).format(at) + " ";
  const words = date + clock.format(at) + (time.classList.contains("relative") ? ` (${fromNow(at)})` : "");
  if (time.textContent !== words) time.textContent = words;
  if (time.title !== time.dateTime) time.title = time.dateTime;
}

// An instant within a sentence becomes a time of its own.
function markTimes(words) {
  const texts = document.createTreeWalker(words, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) found.push(texts.currentNode);
  for (const text of found) {
    if (text.parentElement.closest("time, code")) continue;
    const parts = text.data.split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/);
    if (parts.length === 1) continue;
    text.replaceWith(...parts.map((part, n) => {
      if (n % 2 === 0) return part;
      const time = document.createElement("time");
      time.dateTime = time.textContent = part;
      return time;
    }));
  }
}

function showTimes(root) {
  root.querySelectorAll("[data-words]").forEach(markTimes);
  root.querySelectorAll("time[datetime]").forEach(show);
}

const connection = document.getElementById("connection");
let freshAt = Date.now();

function say(words) {
  if (connection.textContent !== words) connection.textContent = words;
  connection.hidden = !words;
}

// What somebody types or has opened stays as it is.
function isInUse(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, button")
    || part.querySelector("details[open]");
}

const shown = new Map();

function put(fresh) {
  document.querySelectorAll("[data-live]").forEach((part) => {
    const next = fresh.getElementById(part.id);
    if (!next || isInUse(part)) return;
    const html = next.innerHTML;
    if (shown.get(part.id) === html) return;
    const wasShown = shown.has(part.id);
    shown.set(part.id, html);
    part.replaceChildren(...next.childNodes);
    showTimes(part);
    if (wasShown) {
      part.classList.remove("changed");
      requestAnimationFrame(() => part.classList.add("changed"));
    }
  });
  document.querySelectorAll("[data-while-unfinished]").forEach((form) => {
    if (!fresh.querySelector("[data-while-unfinished]")) form.remove();
  });
}

// A page that takes the server long is asked for less often.
let isFetching = false;
let restUntil = 0;

async function refresh() {
  if (isFetching || document.hidden || Date.now() < restUntil) return;
  isFetching = true;
  const begin = Date.now();
  let rest = 1000;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    freshAt = Date.now();
    rest = Math.min(5 * (freshAt - begin), 30000);
    say("");
  } catch (error) {
    say(`This page is as it was at ${clock.format(freshAt)}: there is no answer (${error.message}). Trying again.`);
  } finally {
    isFetching = false;
    restUntil = Date.now() + rest;
  }
}

let isDue = false;

function refreshSoon() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => { isDue = false; refresh(); }, Math.max(300, restUntil - Date.now() + 10));
}

function watch() {
  const events = new EventSource("/events");
  for (const kind of ["request", "notification", "change", "missed"]) events.addEventListener(kind, refreshSoon);
  // What is not told as an event, such as a call that begins, is seen a little later.
  setInterval(refresh, 3000);
  setInterval(() => showTimes(document), 1000);
  document.addEventListener("visibilitychange", refresh);
  addEventListener("pagehide", () => events.close());
}

document.querySelectorAll("[data-live]").forEach((part) => shown.set(part.id, part.innerHTML));
showTimes(document);
// The result of a form that was refused is not to be fetched again: there is nothing at its address.
if (document.querySelector("[data-live]") && !document.querySelector("[role=alert]")) {
  watch();
}
