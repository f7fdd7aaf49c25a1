// The swim lanes. Everything is drawn anew for each view, and only what is in it.
const SVG = { gutter: 96, axis: 24, world: 30, lane: 46, most: 1500 };
const state = {
  chunk: 0, file: -1, node: "", client: "", search: "", background: false, disk: true, calls: true,
  scale: "steps", from: 0, to: 1, selected: -1, page: 0,
};
let shown = new Int32Array(0);
let lanes = [];
let chain = new Set();

// Which events pass the filters.
function passes(id) {
  const kind = E.kind[id];
  if (kind === KIND.broken) return true;
  if (kind === KIND.world) return state.search ? matches(id) : true;
  if (state.chunk && E.chunk[id] !== state.chunk) return false;
  if (state.file >= 0 && E.file[id] !== state.file) return false;
  const own = nameOf(E.node[id]), other = E.peer[id] < 0 ? "" : nameOf(E.peer[id]);
  if (state.node && own !== state.node && other !== state.node) return false;
  if (state.client && own !== state.client && other !== state.client) return false;
  if (!state.disk && (kind === KIND.disk || kind === KIND.diskEnd)) return false;
  if (!state.calls && (kind === KIND.call || kind === KIND.answer)) return false;
  if (!state.background && isBackground(id)) return false;
  return !state.search || matches(id);
}
function matches(id) { return sentence(id).toLowerCase().includes(state.search); }

function applyFilters() {
  const kept = [];
  for (let id = 0; id < COUNT; id++) if (passes(id)) kept.push(id);
  // The world's events around a chunk's life only: what struck before and after it is another story.
  if (state.chunk || state.file >= 0) {
    const own = kept.filter((id) => E.kind[id] !== KIND.world);
    const first = own.length ? own[0] : 0, last = own.length ? own[own.length - 1] : COUNT;
    shown = Int32Array.from(kept.filter((id) => E.kind[id] !== KIND.world || (id >= first && id <= last)));
  } else shown = Int32Array.from(kept);
  const busy = new Set();
  for (const id of shown) { busy.add(E.node[id]); busy.add(E.peer[id]); }
  lanes = data.nodes.map((name, node) => ({ name, node })).filter((lane) => busy.has(lane.node));
}

// Places on the horizontal axis: a unit is one shown event, or one nanosecond.
function lower(id) {
  let low = 0, high = shown.length;
  while (low < high) { const mid = (low + high) >> 1; if (shown[mid] < id) low = mid + 1; else high = mid; }
  return low;
}
function lowerTime(ns) {
  let low = 0, high = shown.length;
  while (low < high) { const mid = (low + high) >> 1; if (times[shown[mid]] < ns) low = mid + 1; else high = mid; }
  return low;
}
function unitOf(id) { return state.scale === "time" ? times[id] : lower(id) + 0.5; }
function unitOfTime(ns) {
  if (state.scale === "time") return ns;
  const at = lowerTime(ns);
  if (at === 0 || at >= shown.length) return at;
  const before = times[shown[at - 1]], after = times[shown[at]];
  return at - 0.5 + (after > before ? (ns - before) / (after - before) : 0);
}
function limits() {
  if (state.scale === "steps") return [-1, Math.max(shown.length + 1, 4)];
  return [0, (times[COUNT - 1] || 1) * 1.01];
}
function setView(from, to) {
  const [low, high] = limits();
  const least = state.scale === "steps" ? 6 : 20000;
  let span = Math.min(Math.max(to - from, least), high - low);
  const start = Math.min(Math.max(from, low), high - span);
  state.from = start;
  state.to = start + span;
  renderTimeline();
}
function zoom(factor, around = (state.from + state.to) / 2) {
  setView(around - (around - state.from) * factor, around + (state.to - around) * factor);
}
function pan(part) { const by = (state.to - state.from) * part; setView(state.from + by, state.to + by); }
function bringIntoView(id) {
  const unit = unitOf(id), span = state.to - state.from;
  if (unit < state.from + span * 0.05 || unit > state.to - span * 0.05) setView(unit - span * 0.6, unit + span * 0.4);
  else renderTimeline();
}
function showAround(id) {
  const unit = unitOf(id);
  if (state.scale === "steps") setView(unit - 34, unit + 14);
  else setView(unit - 30e6, unit + 12e6);
}

let width = 1100, scaleX = (unit) => unit;
function laneY(node) {
  const at = lanes.findIndex((lane) => lane.node === node);
  return at < 0 ? SVG.axis + SVG.world / 2 : SVG.axis + SVG.world + at * SVG.lane + SVG.lane / 2;
}
function totalHeight() { return SVG.axis + SVG.world + lanes.length * SVG.lane + 6; }

function renderTimeline() {
  width = Math.max($("timeline").clientWidth, 480);
  const per = (width - SVG.gutter) / (state.to - state.from);
  scaleX = (unit) => SVG.gutter + (unit - state.from) * per;
  const height = totalHeight();
  const first = state.scale === "steps" ? Math.max(0, Math.floor(state.from)) : lowerTime(state.from);
  const last = state.scale === "steps" ? Math.min(shown.length, Math.ceil(state.to)) : lowerTime(state.to);
  const parts = [];
  for (const lane of lanes) parts.push(`<rect class="lane" data-lane="${esc(lane.name)}" x="0" width="${width}" y="${laneY(lane.node) - SVG.lane / 2 + 2}" height="${SVG.lane - 4}"/>`);
  parts.push(bands(), axis(height));
  const dense = last - first > SVG.most;
  parts.push(dense ? density(first, last) : marks(Math.max(0, first - 60), Math.min(shown.length, last + 1), per));
  for (const step of data.story) {
    if (step.tone !== "odd") continue;
    const x = scaleX(unitOf(step.id));
    if (x > SVG.gutter && x < width) parts.push(`<g class="event" data-id="${step.id}"><line class="odd" x1="${x}" x2="${x}" y1="${SVG.axis}" y2="${height}"/><text class="label" x="${x + 4}" y="${SVG.axis + 9}" style="fill:var(--odd)">look here</text></g>`);
  }
  for (const broken of data.broken) {
    if (broken.id < 0) continue;
    const x = scaleX(unitOf(broken.id));
    if (x > SVG.gutter && x < width + 4) parts.push(`<g class="event" data-id="${broken.id}"><line class="broken" x1="${x}" x2="${x}" y1="4" y2="${height}"/><path class="flag" d="M${x} 4h-12l4 5-4 5h12z"/></g>`);
  }
  if (state.selected >= 0) {
    const x = scaleX(unitOf(state.selected));
    parts.push(`<line class="cursor" x1="${x}" x2="${x}" y1="${SVG.axis}" y2="${height}"/>`);
    if (E.node[state.selected] >= 0) parts.push(`<circle class="chosen" cx="${x}" cy="${laneY(E.node[state.selected])}" r="8"/>`);
  }
  parts.push(`<rect class="gutter" x="0" y="0" width="${SVG.gutter}" height="${height}"/>`);
  parts.push(`<text class="faint" x="10" y="${SVG.axis + SVG.world / 2 + 4}">faults</text>`);
  for (const lane of lanes) parts.push(`<text class="name" x="10" y="${laneY(lane.node) + 4}">${esc(lane.name)}</text>`);
  parts.push(`<line class="axis" x1="${SVG.gutter}" x2="${SVG.gutter}" y1="0" y2="${height}"/>`);
  $("timeline").innerHTML = `<svg height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="Lanes of ${lanes.map((l) => esc(l.name)).join(", ")}">${parts.join("")}</svg>`;
  renderBar(first, last, dense);
  renderOverview();
  renderChunk();
}

function axis(height) {
  const out = [], count = Math.max(3, Math.floor((width - SVG.gutter) / 150));
  for (let i = 0; i <= count; i++) {
    const unit = state.from + ((state.to - state.from) * (i + 0.5)) / (count + 1);
    let ns = unit;
    if (state.scale === "steps") {
      const at = Math.round(unit - 0.5);
      if (at < 0 || at >= shown.length) continue;
      ns = times[shown[at]];
    }
    const x = scaleX(state.scale === "steps" ? Math.round(unit - 0.5) + 0.5 : unit);
    out.push(`<line class="axis" x1="${x}" x2="${x}" y1="${SVG.axis - 4}" y2="${height}"/><text class="faint" x="${x}" y="14" text-anchor="middle">${seconds(ns, state.to - state.from > 5e9 && state.scale === "time" ? 2 : 5)}</text>`);
  }
  return out.join("");
}

const PART_CLASS = (part) => (part.startsWith("disk") ? "disk" : part);
function bands() {
  const out = [];
  for (const [node, part, text, from, until, cause] of data.conditions) {
    const at = lanes.findIndex((lane) => lane.node === node);
    if (at < 0) continue;
    const x1 = Math.max(scaleX(unitOfTime(from)), SVG.gutter), x2 = Math.min(scaleX(unitOfTime(until)), width);
    if (x2 <= x1) continue;
    const kind = PART_CLASS(part), place = { process: 0, cut: 0, link: 1, disk: 2 }[kind];
    const y = laneY(node) - SVG.lane / 2 + 2 + place * 4, h = SVG.lane - 4 - place * 8;
    const told = `${part.startsWith("disk") ? part + ": " : ""}${text}`;
    const label = x2 - x1 > 40 ? `<text class="label" x="${x1 + 4}" y="${y + (kind === "disk" ? h - 3 : 9)}">${esc(told.slice(0, Math.floor((x2 - x1) / 5.5)))}</text>` : "";
    out.push(`<g class="event" data-id="${cause}"><title>${esc(`${nameOf(node)}: ${told}, ${seconds(from)} to ${seconds(until)}`)}</title><rect class="band ${kind}" x="${x1}" y="${y}" width="${x2 - x1}" height="${h}"/>${label}</g>`);
  }
  return out.join("");
}

function density(first, last) {
  const bins = Math.floor((width - SVG.gutter) / 3), counts = new Map();
  let most = 1;
  for (let i = first; i < last; i++) {
    const id = shown[i], x = Math.floor((scaleX(unitOf(id)) - SVG.gutter) / 3);
    if (x < 0 || x >= bins) continue;
    const key = E.node[id] * bins + x, count = (counts.get(key) || 0) + 1;
    counts.set(key, count);
    if (count > most) most = count;
  }
  let out = "";
  for (const [key, count] of counts) {
    const node = Math.floor(key / bins), x = SVG.gutter + (key - node * bins) * 3;
    const h = 3 + ((SVG.lane - 12) * Math.log1p(count)) / Math.log1p(most);
    out += `<rect class="density" x="${x}" y="${laneY(node) - h / 2}" width="2.4" height="${h}"/>`;
  }
  return out;
}

function short(text) { return text.split(" ")[0]; }
function marks(first, last, per) {
  const out = [], labels = [], busy = new Map();
  // Labels in steps are worth their room while columns are wide; by true time while there are few.
  const roomy = state.scale === "steps" ? per >= 15 : last - first < 80;
  for (let i = first; i < last; i++) {
    const id = shown[i], kind = E.kind[id], x = scaleX(unitOf(id)), y = laneY(E.node[id]);
    const lit = chain.has(id) ? " chain" : "";
    const title = `<title>${esc(`${seconds(times[id])} ${sentence(id)}`)}</title>`;
    const open = `<g class="event${lit}" data-id="${id}">${title}`;
    if (kind === KIND.sending) {
      const arrival = arrivalOf[id];
      if (E.peer[id] < 0 || !lanes.some((lane) => lane.node === E.peer[id])) { out.push(`${open}<circle class="dot" cx="${x}" cy="${y}" r="3"/></g>`); continue; }
      const y2 = laneY(E.peer[id]);
      if (arrival < 0) {
        const mx = x + 14, my = y + (y2 - y) * 0.4;
        out.push(`${open}<path class="hit" d="M${x} ${y}L${mx} ${my}"/><path class="message lost" d="M${x} ${y}L${mx} ${my}"/><path class="cross" d="M${mx - 4} ${my - 4}l8 8m0-8l-8 8"/><circle class="dot" cx="${x}" cy="${y}" r="2.6"/></g>`);
      } else out.push(arrow(open, x, y, scaleX(unitOf(arrival)), y2));
      if (roomy) labels.push([x, y, arrival < 0 ? x + 14 : scaleX(unitOf(arrival)), y2, short(textOf(id))]);
    } else if (kind === KIND.arrival) {
      const cause = causeOf(id);
      if (cause >= 0 && lower(cause) < first) out.push(arrow(open, scaleX(unitOf(cause)), laneY(E.node[cause]), x, y));
      out.push(`${open}<circle class="hit" cx="${x}" cy="${y}" r="7"/>${cause < 0 ? `<path class="cross" d="M${x - 4} ${y - 4}l8 8m0-8l-8 8"/>` : ""}</g>`);
    } else if (kind === KIND.disk) {
      const end = arrivalOf[id], x2 = end < 0 ? x + 10 : Math.max(scaleX(unitOf(end)), x + 3);
      const failed = end >= 0 && ownText(end).startsWith("error") ? " failed" : "";
      // Operations at once lie one below the other.
      const rows = busy.get(E.node[id]) || [0, 0, 0];
      const row = Math.max(0, rows.findIndex((free) => free <= x));
      rows[row] = x2;
      busy.set(E.node[id], rows);
      const top = y + 6 + row * 5;
      out.push(`${open}<rect class="hit" x="${x}" y="${top - 1}" width="${x2 - x}" height="5"/><rect class="disk${failed}" x="${x}" y="${top}" width="${x2 - x - 1}" height="3.6" rx="1.8" opacity="${end < 0 ? 0.4 : 0.9}"/></g>`);
      if (end >= 0) out.push(`<g class="event${chain.has(end) ? " chain" : ""}" data-id="${end}"><title>${esc(`${seconds(times[end])} ${sentence(end)}`)}</title><rect class="hit" x="${x2 - 4}" y="${top - 1}" width="7" height="5"/></g>`);
      if (roomy && row === 0 && x2 - x > 34) labels.push([x, y + 3, x2, y + 3, short(ownText(id))]);
    } else if (kind === KIND.diskEnd) {
      const begun = causeOf(id);
      if (begun < 0 || lower(begun) < first) out.push(`${open}<circle class="disk" cx="${x}" cy="${y + 9}" r="3"/></g>`);
    } else if (kind === KIND.call || kind === KIND.answer) {
      const d = kind === KIND.call ? `M${x - 5} ${y - 18}h10l-5 8z` : `M${x - 5} ${y - 10}h10l-5 -8z`;
      out.push(`${open}<path class="call" d="${d}"/></g>`);
      if (roomy && kind === KIND.call) labels.push([x, y - 16, x + 60, y - 16, short(ownText(id)).replace(/[({].*/, "")]);
    } else if (kind === KIND.lost) {
      out.push(`${open}<path class="cross" d="M${x - 4} ${y - 4}l8 8m0-8l-8 8"/></g>`);
    } else if (kind === KIND.note) {
      out.push(`${open}<path class="note" d="M${x} ${y - 6}l6 6-6 6-6-6z"/></g>`);
    } else if (kind === KIND.world) {
      out.push(`${open}<path class="world" d="M${x} ${y - 7}l7 12h-14z"/></g>`);
    } else if (kind === KIND.wake) {
      out.push(`${open}<circle class="wake" cx="${x}" cy="${y}" r="2.4"/></g>`);
    }
  }
  const placed = [];
  for (const [x1, y1, x2, y2, text] of labels) {
    const x = (x1 + x2) / 2 - text.length * 2.6, y = (y1 + y2) / 2 + 3, w = text.length * 5.4;
    if (x < SVG.gutter || placed.some(([px, py, pw]) => Math.abs(py - y) < 11 && x < px + pw && px < x + w)) continue;
    placed.push([x, y, w]);
    out.push(`<text class="label" x="${x}" y="${y}" pointer-events="none">${esc(text)}</text>`);
  }
  return out.join("");
}

function arrow(open, x1, y1, x2, y2) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1, ux = (x2 - x1) / length, uy = (y2 - y1) / length;
  const bx = x2 - ux * 8, by = y2 - uy * 8;
  return `${open}<path class="hit" d="M${x1} ${y1}L${x2} ${y2}"/><path class="message" d="M${x1} ${y1}L${bx} ${by}"/><path class="head" d="M${x2} ${y2}L${bx - uy * 3.5} ${by + ux * 3.5}L${bx + uy * 3.5} ${by - ux * 3.5}z"/><circle class="dot" cx="${x1}" cy="${y1}" r="2.6"/></g>`;
}

function renderBar(first, last, dense) {
  const button = (label, name, act) => el("button", { type: "button", title: name, "aria-label": name, onclick: act }, label);
  const scale = el("select", { "aria-label": "Horizontal scale", onchange: (e) => setScale(e.target.value) },
    el("option", { value: "steps" }, "even steps"), el("option", { value: "time" }, "true time"));
  scale.value = state.scale;
  const many = dense ? " Too many to draw one by one: zoom in, or choose a chunk, a file or a node." : "";
  $("bar").replaceChildren(
    button("−", "Zoom out", () => zoom(1.6)), button("+", "Zoom in", () => zoom(1 / 1.6)),
    button("◀", "Earlier", () => pan(-0.6)), button("▶", "Later", () => pan(0.6)),
    button("All", "Show everything that passes the filters", () => setView(...limits())),
    button(data.broken.length ? "To the violation" : "To the end", "Back to where to look first", () => goTo(data.focus[0])),
    el("label", {}, "Scale ", scale),
    el("span", { class: "grow" }, `${grouped(Math.max(0, last - first))} of ${grouped(shown.length)} events that pass the filters are in view; the run has ${grouped(COUNT + data.left_out)}${data.left_out ? `, of which ${grouped(data.left_out)} are left out here: wake-ups without effect, and in long runs what is far from the focus` : ""}.${many}`));
}
function setScale(scale) {
  const middle = shown.length ? shown[Math.min(shown.length - 1, Math.max(0, state.scale === "steps" ? Math.round((state.from + state.to) / 2) : lowerTime((state.from + state.to) / 2)))] : 0;
  state.scale = scale;
  showAround(state.selected >= 0 ? state.selected : middle);
}

function renderOverview() {
  const w = Math.max($("overview").clientWidth, 480), h = 40, end = times[COUNT - 1] || 1, x = (ns) => (ns / end) * w;
  const bins = new Uint32Array(Math.floor(w / 3) + 1);
  for (const id of shown) bins[Math.floor(x(times[id]) / 3)]++;
  const most = Math.max(1, ...bins);
  let out = "";
  for (const [, part, , from, until] of data.conditions) out += `<rect class="band ${PART_CLASS(part)}" x="${x(from)}" width="${Math.max(1, x(until) - x(from))}" y="30" height="8"/>`;
  bins.forEach((count, i) => { if (count) { const b = 2 + (26 * Math.log1p(count)) / Math.log1p(most); out += `<rect class="density" x="${i * 3}" y="${29 - b}" width="2.4" height="${b}"/>`; } });
  for (const broken of data.broken) if (broken.id >= 0) out += `<line class="broken" x1="${x(times[broken.id])}" x2="${x(times[broken.id])}" y1="0" y2="${h}"/>`;
  const edge = (unit) => (state.scale === "time" ? unit : shown.length ? times[shown[Math.min(shown.length - 1, Math.max(0, Math.floor(unit)))]] : 0);
  const a = x(edge(state.from)), b = x(edge(state.to));
  out += `<rect class="view" x="${a}" width="${Math.max(3, b - a)}" y="1" height="${h - 2}" rx="3"/>`;
  $("overview").innerHTML = `<svg height="${h}" viewBox="0 0 ${w} ${h}">${out}</svg>`;
}
