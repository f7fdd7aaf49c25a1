// Selection, filters, keys; and the page's test of itself, which `#selftest` starts.
function select(id, move) {
  if (id < 0 || id >= COUNT) return;
  state.selected = id;
  chain = new Set([id]);
  for (let cause = causeOf(id); cause >= 0 && chain.size < 500; cause = causeOf(cause)) chain.add(cause);
  for (const effect of effects[id] || []) chain.add(effect);
  if (shown[lower(id)] !== id && move) reveal(id);
  const at = lower(id);
  state.page = Math.floor(at / ROWS);
  if (move) bringIntoView(id); else renderTimeline();
  renderDetail();
  renderTable();
  for (const item of document.querySelectorAll("#story li")) item.classList.toggle("current", +item.dataset.step === id);
  followCurrent(document.querySelector("#story ol"), "li.current");
}
// An event that a link leads to must be seen: filters that hide it are taken off.
function reveal(id) {
  if (state.chunk && E.chunk[id] !== state.chunk) state.chunk = 0;
  if (state.file >= 0 && E.file[id] !== state.file) state.file = -1;
  Object.assign(state, { node: "", client: "", search: "", disk: true, calls: true });
  if (isBackground(id)) state.background = true;
  applyFilters();
  renderFilters();
  showAround(id);
}
function step(by) {
  const at = state.selected < 0 ? lower(data.focus[0]) : lower(state.selected) + by;
  if (at >= 0 && at < shown.length) select(shown[at], true);
}

function filtersChanged() {
  applyFilters();
  state.page = 0;
  const target = state.selected >= 0 ? state.selected : data.focus[0];
  if (shown.length <= 160 && state.scale === "steps") setView(...limits()); else showAround(target);
  renderDetail();
  renderTable();
}
function renderFilters() {
  const choose = (label, name, options, value) => {
    const box = el("select", { name, onchange: (e) => { state[name] = typeof value === "number" ? +e.target.value : e.target.value; filtersChanged(); } },
      options.map(([key, text]) => el("option", { value: key }, text)));
    box.value = String(value);
    return el("label", {}, label, box);
  };
  const tick = (label, name) => {
    const box = el("input", { type: "checkbox", name, onchange: (e) => { state[name] = e.target.checked; filtersChanged(); } });
    box.checked = state[name];
    return el("label", {}, box, label);
  };
  const all = (name) => [["", `all ${name}`]];
  const clients = data.nodes.filter((name) => name.startsWith("client"));
  const search = el("input", { type: "search", name: "search", placeholder: "words, e.g. Vote", onchange: (e) => { state.search = e.target.value.toLowerCase(); filtersChanged(); } });
  search.value = state.search;
  $("filters").replaceChildren(
    choose("Chunk", "chunk", [[0, "all chunks"], ...data.chunks.map((c) => [c.id, `chunk ${c.id}${c.files.length === 1 ? ` of ${data.files[c.files[0]]}` : ""}`])], state.chunk),
    choose("File", "file", [[-1, "all files"], ...data.files.map((path, i) => [i, path])], state.file),
    choose("Node", "node", all("nodes").concat(data.nodes.map((name) => [name, name])), state.node),
    choose("Client", "client", all("clients").concat(clients.map((name) => [name, name])), state.client),
    el("label", {}, "Text", search),
    tick("disks", "disk"), tick("users' calls", "calls"), tick("heartbeats and the like", "background"),
    el("button", { type: "button", onclick: () => { Object.assign(state, { chunk: 0, file: -1, node: "", client: "", search: "" }); renderFilters(); filtersChanged(); } }, "Show everything"));
}
function renderLegend() {
  const item = (drawing, words) => { const span = el("span", {}); span.innerHTML = `<svg viewBox="0 0 26 12">${drawing}</svg>${esc(words)}`; return span; };
  $("legend").replaceChildren(
    item('<path class="message" d="M1 2L19 9"/><path class="head" d="M25 11l-7-5-2 6z"/>', "message, from sender to receiver"),
    item('<path class="message lost" d="M1 2L16 9"/><path class="cross" d="M14 5l7 6m0-6l-7 6"/>', "never arrives"),
    item('<rect class="disk" x="1" y="3" width="24" height="6" rx="3"/>', "disk operation"),
    item('<path class="call" d="M4 2h10l-5 8z"/><path class="call" d="M15 10h10l-5 -8z"/>', "user's call, answer"),
    item('<path class="note" d="M12 0l6 6-6 6-6-6z"/>', "note to the operator"),
    item('<path class="world" d="M12 0l7 12h-14z"/>', "fault or its end"),
    item('<rect class="band process" width="26" height="12"/>', "down or paused"),
    item('<rect class="band cut" width="26" height="12"/>', "cut off"),
    item('<rect class="band link" width="26" height="12"/>', "bad links"),
    item('<rect class="band disk" width="26" height="12"/>', "bad disk"));
}

function pick(event) {
  const target = event.target.closest("[data-id]");
  if (target && +target.dataset.id >= 0) select(+target.dataset.id, false);
}
function listen() {
  const line = $("timeline");
  let drag = null;
  line.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, from: state.from, to: state.to, moved: false }; });
  addEventListener("pointermove", (e) => {
    if (!drag) return;
    const by = ((e.clientX - drag.x) / (width - SVG.gutter)) * (drag.to - drag.from);
    if (Math.abs(e.clientX - drag.x) > 4) { drag.moved = true; line.classList.add("dragging"); }
    if (drag.moved) setView(drag.from - by, drag.to - by);
  });
  addEventListener("pointerup", () => { line.classList.remove("dragging"); setTimeout(() => (drag = null)); });
  line.addEventListener("click", (e) => { if (!drag || !drag.moved) pick(e); });
  line.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey && !e.shiftKey && Math.abs(e.deltaX) < Math.abs(e.deltaY)) return;
    e.preventDefault();
    if (e.ctrlKey || e.metaKey) {
      const x = e.clientX - line.getBoundingClientRect().left;
      zoom(e.deltaY > 0 ? 1.2 : 1 / 1.2, state.from + ((x - SVG.gutter) / (width - SVG.gutter)) * (state.to - state.from));
    } else pan((e.deltaX || e.deltaY) / 1000);
  }, { passive: false });
  line.addEventListener("keydown", (e) => {
    const acts = {
      ArrowRight: () => (e.shiftKey ? pan(0.3) : step(1)), ArrowLeft: () => (e.shiftKey ? pan(-0.3) : step(-1)),
      "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "-": () => zoom(1.6), Home: () => goTo(data.focus[0]),
      c: () => state.selected >= 0 && select(causeOf(state.selected), true),
      e: () => state.selected >= 0 && effects[state.selected] && select(effects[state.selected][0], true),
    };
    if (acts[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); acts[e.key](); }
  });
  $("overview").addEventListener("click", (e) => {
    const ns = (e.offsetX / $("overview").clientWidth) * times[COUNT - 1], unit = unitOfTime(ns), half = (state.to - state.from) / 2;
    setView(unit - half, unit + half);
  });
  $("filters").addEventListener("submit", (e) => e.preventDefault());
  addEventListener("resize", () => renderTimeline());
}

function start() {
  renderHead();
  renderStory();
  renderWords();
  renderLegend();
  $("run-hint").textContent = "Time goes from left to right, one lane for each node. Drag to move, hold Ctrl and turn the wheel to zoom, click anything to see what it was and what it came from. With the keyboard: arrows select, Shift and arrows move, + and − zoom, c goes to the cause, e to the first effect.";
  state.chunk = Math.max(0, data.focus[1]);
  applyFilters();
  renderFilters();
  listen();
  const odd = data.story.find((s) => s.tone === "odd");
  const target = odd ? odd.id : data.focus[0];
  state.selected = target;
  if (shown.length <= 80) setView(...limits()); else showAround(target);
  select(target, false);
}

// Checks what a reader would do by hand, and writes what it found into the page.
function selftest() {
  const found = { lanes: document.querySelectorAll("#timeline [data-lane]").length, arrows: document.querySelectorAll("#timeline .head").length };
  const checks = [];
  const check = (name, holds) => checks.push([name, Boolean(holds)]);
  check("lanes", found.lanes >= 2);
  check("arrows", found.arrows >= 1);
  check("what was promised or that it held", $("violation").textContent.length > 40);
  check("a chunk's strip", !data.chunks.length || data.focus[1] < 0 || document.querySelectorAll("#strip .event").length > 0);
  check("rows", document.querySelectorAll("#events tbody tr").length > 0);
  const before = shown.length;
  $("filters").elements.node.value = "master";
  $("filters").elements.node.dispatchEvent(new Event("change"));
  check("the filter takes events away", shown.length < before && Array.from(shown).every((id) => E.kind[id] >= 9 || nameOf(E.node[id]) === "master" || nameOf(E.peer[id]) === "master"));
  $("filters").elements.node.value = "";
  $("filters").elements.node.dispatchEvent(new Event("change"));
  check("and gives them back", shown.length === before);
  const arrival = Array.from(shown).find((id) => E.kind[id] === KIND.arrival && causeOf(id) >= 0);
  select(arrival, true);
  document.querySelector("#detail button[data-event]").click();
  check("a link leads to the cause", state.selected === causeOf(arrival) && $("selected").dataset.selected === String(causeOf(arrival)));
  const back = Array.from(document.querySelectorAll("#detail button[data-event]")).find((b) => +b.dataset.event === arrival);
  if (back) back.click();
  check("and another one back", state.selected === arrival);
  $("timeline").dispatchEvent(new KeyboardEvent("keydown", { key: "c" }));
  check("the key c leads to the cause", state.selected === causeOf(arrival));
  document.querySelector("#timeline .event[data-id]").dispatchEvent(new MouseEvent("click", { bubbles: true }));
  check("a click selects", $("selected"));
  setScale("time");
  check("true time", document.querySelectorAll("#timeline [data-lane]").length === found.lanes);
  setScale("steps");
  check("nothing in a name became an element", !document.querySelector("#head img, #run img, #events img, #story img, main script"));
  check("no errors", !$("errors"));
  const ok = checks.every(([, holds]) => holds);
  document.body.append(el("pre", { id: "selftest", "data-ok": String(ok) }, JSON.stringify({ ok, ...found, failed: checks.filter(([, holds]) => !holds).map(([name]) => name) })));
}

start();
if (location.hash === "#selftest") selftest();
