// The state of the chosen chunk over time, on the same axis as the lanes: what arrived, what was promised, what is on disk.
const STRIP = { row: 54, master: 30 };

function renderChunk() {
  const chunk = chunkById.get(state.chunk || data.focus[1]);
  if (!chunk) { $("chunk").replaceChildren(el("p", { class: "hint" }, "Choose a chunk above to see the state of its replicas here.")); return; }
  const servers = Object.keys(chunk.replicas);
  const most = Math.max(1, ...servers.flatMap((name) => chunk.replicas[name].flatMap((c) => [c[3], c[4], c[6]])));
  const height = STRIP.master + servers.length * STRIP.row + 4;
  const parts = [];
  chunk.master.forEach((change, i) => {
    const [x1, x2] = spanOf(change, chunk.master[i + 1]);
    if (x2 <= x1) return;
    parts.push(`<g class="event" data-id="${change[0]}"><title>${esc(change[1])}</title><rect class="lane" x="${x1}" y="3" width="${x2 - x1 - 1}" height="${STRIP.master - 6}"/><text class="label" x="${x1 + 4}" y="19">${esc(change[1].slice(0, Math.max(0, Math.floor((x2 - x1) / 5.2))))}</text></g>`);
  });
  servers.forEach((name, row) => {
    const top = STRIP.master + row * STRIP.row, base = top + STRIP.row - 6, full = STRIP.row - 20;
    parts.push(`<line class="axis" x1="0" x2="${width}" y1="${base}" y2="${base}"/>`);
    let said = "";
    chunk.replicas[name].forEach((change, i) => {
      const [x1, x2] = spanOf(change, chunk.replicas[name][i + 1]);
      const [, status, version, staged, ready, committed, durable] = change;
      const label = status ? `${status} v${version}` : "not here";
      if (x2 <= x1) { said = label; return; }
      const bar = (bytes, kind, inset) => bytes > 0 ? `<rect class="${kind}" x="${x1}" width="${x2 - x1}" y="${base - (bytes / most) * full}" height="${(bytes / most) * full - inset}"/>` : "";
      const line = committed > 0 ? `<line class="committed" x1="${x1}" x2="${x2}" y1="${base - (committed / most) * full}" y2="${base - (committed / most) * full}"/>` : "";
      const words = `${name}: ${label}, ${staged} bytes arrived, ${ready} promised, ${committed} known as committed, ${durable} on disk`;
      const first = said !== label && x2 - x1 > 8 ? `<text class="label" x="${x1 + 3}" y="${top + 10}">${esc(label)}</text>` : "";
      if (first) said = label;
      const lower = Math.min(ready, durable);
      parts.push(`<g class="event" data-id="${change[0]}"><title>${esc(words)}</title><rect class="hit" x="${x1}" width="${x2 - x1}" y="${top}" height="${STRIP.row - 6}"/>${bar(staged, "staged", 0)}${bar(ready, "ready", 0)}${bar(lower, "durable", 0)}${line}${first}</g>`);
    });
  });
  if (state.selected >= 0) { const x = scaleX(unitOf(state.selected)); parts.push(`<line class="cursor" x1="${x}" x2="${x}" y1="0" y2="${height}"/>`); }
  parts.push(`<rect class="gutter" x="0" y="0" width="${SVG.gutter}" height="${height}"/><text class="name" x="10" y="19">master</text>`);
  servers.forEach((name, row) => parts.push(`<text class="name" x="10" y="${STRIP.master + row * STRIP.row + 30}">${esc(name)}</text>`));
  const files = chunk.files.map((file) => data.files[file]).join(", ");
  const frame = el("div", { class: "frame", id: "strip" });
  frame.innerHTML = `<svg height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="State of chunk ${chunk.id} over time; the table below says the same for the selected event">${parts.join("")}</svg>`;
  frame.addEventListener("click", pick);
  const key = (kind, word) => { const span = el("span", {}); span.innerHTML = `<svg viewBox="0 0 26 12">${kind === "committed" ? '<line class="committed" x1="0" x2="26" y1="6" y2="6"/>' : `<rect class="${kind}" width="26" height="12"/>`}</svg>${word}`; return span; };
  $("chunk").replaceChildren(
    el("h3", {}, `Chunk ${chunk.id}${files ? ` of ${files}` : ""}: what each replica has`),
    frame,
    el("div", { class: "small", style: "display:flex;gap:16px;flex-wrap:wrap;margin:6px 2px 12px", id: "strip-key" },
      key("staged", "arrived"), key("ready", "promised (ready), not on disk"), key("durable", "promised and on disk"), key("committed", "known as committed")),
    chunkTable(chunk, servers));
  $("strip-key").querySelectorAll("svg").forEach((svg) => svg.setAttribute("style", "display:inline-block;width:26px;height:12px;margin-right:5px;vertical-align:-1px"));
}

function spanOf(change, next) {
  const x1 = Math.max(scaleX(unitOf(change[0])), SVG.gutter);
  return [x1, Math.min(next ? scaleX(unitOf(next[0])) : width, width)];
}

function chunkTable(chunk, servers) {
  const id = state.selected >= 0 ? state.selected : data.focus[0];
  const master = stateAt(chunk.master, id);
  const cell = (text) => el("td", { class: "number" }, text);
  const rows = servers.map((name) => {
    const now = stateAt(chunk.replicas[name], id);
    if (!now || !now[1]) return el("tr", {}, el("th", { scope: "row" }, name), el("td", { colspan: 6 }, "has none"));
    return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, now[1]), cell(`v${now[2]}`), ...now.slice(3).map((bytes) => cell(grouped(bytes))));
  });
  return el("div", { class: "scroll" }, el("table", { id: "chunk-table" },
    el("caption", { class: "small", style: "text-align:left;padding:6px 10px" }, `At the selected event (${seconds(times[id])}) the master knows: ${master ? master[1] : "nothing of this chunk"}`),
    el("thead", {}, el("tr", {}, ["replica on", "state", "version", "arrived", "promised", "known as committed", "on disk"].map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : "" }, name)))),
    el("tbody", {}, rows)));
}
