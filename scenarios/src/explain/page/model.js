"use strict";
// The data as the page uses it. What is written here is described in `data.rs`.
addEventListener("error", (e) => {
  const box = document.getElementById("errors") || document.body.insertBefore(el("div", { id: "errors", role: "alert" }), document.body.firstChild);
  box.append(el("p", {}, `This page has a bug: ${e.message} (${e.lineno})`));
});
const data = JSON.parse(document.getElementById("data").textContent);
const E = data.events;
const COUNT = E.after.length;
// Columns that are written as characters become numbers.
const digits = (text, less) => Int16Array.from(text, (c) => c.charCodeAt(0) - 48 - less);
E.node = digits(E.node, 1);
E.peer = digits(E.peer, 1);
E.kind = digits(E.kind, 0);
E.numbers = E.numbers.split("|");
const KIND = { wake: 0, arrival: 1, diskEnd: 2, call: 3, lost: 4, sending: 5, disk: 6, answer: 7, note: 8, world: 9, broken: 10 };
const KIND_WORDS = ["wake-up", "message arrives", "disk operation ends", "user's call", "connection lost", "message is sent",
  "disk operation begins", "answer to the user", "note", "done to the world", "broken promise"];
const templates = data.templates.map((text) => text.split("\u0001"));
const BACKGROUND = /^(Heartbeat|BlockReport|RequestReport|ClusterStatus|Cluster |KeepUpload|Space |wakes)/;
const isBackgroundText = data.templates.map((text) => BACKGROUND.test(text));

const times = new Float64Array(COUNT);
for (let id = 0, now = 0; id < COUNT; id++) times[id] = now += E.after[id];

// Effects of each event, and what answered each call, both ways of every link.
const effects = Array.from({ length: COUNT }, () => null);
const arrivalOf = new Int32Array(COUNT).fill(-1);
function addEffect(cause, id) { (effects[cause] = effects[cause] || []).push(id); }
for (let id = 0; id < COUNT; id++) {
  const cause = causeOf(id);
  if (cause < 0) continue;
  addEffect(cause, id);
  if (E.kind[id] === KIND.arrival || E.kind[id] === KIND.diskEnd) arrivalOf[cause] = id;
}
for (const [answer, call] of Object.entries(E.calls)) if (causeOf(+answer) !== call) addEffect(call, +answer);

function causeOf(id) { return E.cause[id] ? id - E.cause[id] : -1; }
function callOf(id) { return E.calls[id] === undefined ? -1 : E.calls[id]; }

function ownText(id) {
  const parts = templates[E.text[id]];
  if (parts.length === 1) return parts[0];
  const numbers = E.numbers[id].split(" ");
  let text = parts[0];
  for (let i = 1; i < parts.length; i++) text += numbers[i - 1] + parts[i];
  return text;
}
// An arrival says what was sent.
function textOf(id) {
  return E.kind[id] === KIND.arrival && E.cause[id] && !templates[E.text[id]][0] ? ownText(causeOf(id)) : ownText(id);
}
function isBackground(id) {
  if (isBackgroundText[E.text[id]]) return true;
  const cause = causeOf(id);
  return (E.kind[id] === KIND.arrival || E.kind[id] === KIND.diskEnd) && cause >= 0 && isBackgroundText[E.text[cause]];
}
// What became of something that nothing answers.
function fateOf(id) { return times[COUNT - 1] - times[id] < 1e9 ? "still under way at the end of the run" : "never arrives"; }
function nameOf(node) { return node < 0 ? "world" : data.nodes[node]; }
function seconds(ns, digits = 6) { return (ns / 1e9).toFixed(digits) + " s"; }
function grouped(number) { return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f"); }
function sentence(id) {
  const own = nameOf(E.node[id]), other = E.peer[id] < 0 ? "nobody" : nameOf(E.peer[id]), text = textOf(id);
  switch (E.kind[id]) {
    case KIND.arrival: return `${own} receives from ${other}: ${text}`;
    case KIND.sending: return `${own} sends to ${other}: ${text}${arrivalOf[id] < 0 ? ` (${fateOf(id)})` : ""}`;
    case KIND.disk: return `${own} asks its disk: ${text}`;
    case KIND.diskEnd: return `${own}'s disk answers: ${text}${causeOf(id) < 0 ? "" : ` (${ownText(causeOf(id))})`}`;
    case KIND.call: return `a user asks ${own}: ${text}`;
    case KIND.answer: return `${own} answers its user: ${text}`;
    case KIND.lost: return `${own} loses its connection with ${other}`;
    case KIND.wake: return `${own} ${text}`;
    case KIND.note: return `${own} notes: ${text}`;
    case KIND.broken: return `promise broken: ${text}`;
    default: return text;
  }
}

const chunkById = new Map(data.chunks.map((chunk) => [chunk.id, chunk]));
// The state that held when event `id` was over, of a list of changes that begin with their event.
function stateAt(changes, id) {
  let found = null;
  for (const change of changes) { if (change[0] > id) break; found = change; }
  return found;
}

function el(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
function esc(text) {
  return String(text).replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);
}
const $ = (id) => document.getElementById(id);
