// The selected event with its links, and all events as text.
const ROWS = 100;

function renderDetail() {
  const id = state.selected;
  if (id < 0) {
    $("detail").replaceChildren(el("div", { class: "card" }, el("p", { class: "hint" }, "Select an event: click it, or use the arrow keys while the timeline has the focus.")));
    return;
  }
  const link = (other) => el("li", {}, eventLink(other, `${seconds(times[other])}: ${sentence(other)}`));
  const cause = causeOf(id), call = callOf(id), next = effects[id] || [];
  const row = (name, items) => (items.length ? [el("span", {}, name), el("ul", {}, items)] : []);
  const more = next.length > 12 ? [el("li", { class: "small" }, `and ${next.length - 12} more`)] : [];
  const about = [E.chunk[id] ? `chunk ${E.chunk[id]}` : "", E.file[id] >= 0 ? data.files[E.file[id]] : ""].filter(Boolean).join(", ");
  $("detail").replaceChildren(el("div", { class: "card", id: "selected", "data-selected": id },
    el("div", { class: "eyebrow" }, `${seconds(times[id])} · ${nameOf(E.node[id])} · ${KIND_WORDS[E.kind[id]]}${about ? ` · about ${about}` : ""}`),
    el("p", { class: "text mono" }, sentence(id)),
    el("div", { class: "links" },
      row("Because of", cause >= 0 ? [link(cause)] : []),
      row("Answer to", call >= 0 && call !== cause ? [link(call)] : []),
      row("Led to", next.slice(0, 12).map(link).concat(more)))));
}

function renderTable() {
  const pages = Math.max(1, Math.ceil(shown.length / ROWS));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const rows = Array.from(shown.slice(state.page * ROWS, (state.page + 1) * ROWS), (id) => {
    const kind = E.kind[id];
    return el("tr", { class: `row${kind === KIND.broken ? " broken" : kind === KIND.world ? " world" : ""}${id === state.selected ? " current" : ""}`, "data-id": id, tabindex: 0, "aria-selected": id === state.selected ? "true" : "false" },
      el("td", { class: "number mono" }, seconds(times[id])), el("td", {}, nameOf(E.node[id])),
      el("td", {}, KIND_WORDS[kind]), el("td", {}, E.peer[id] < 0 ? "" : nameOf(E.peer[id])),
      el("td", { class: "text mono" }, textOf(id)));
  });
  const turn = (label, by) => el("button", { type: "button", onclick: () => { state.page += by; renderTable(); } }, label);
  const body = el("tbody", { onclick: (e) => chooseRow(e), onkeydown: (e) => { if (e.key === "Enter") chooseRow(e); } }, rows);
  $("events").replaceChildren(el("h2", { id: "events-title" }, "All of it as text"),
    el("p", { class: "hint" }, "The events that pass the filters above. Choose one to see it in the timeline."),
    el("div", { class: "bar" }, turn("Earlier", -1), turn("Later", 1), el("span", { class: "grow" }, `page ${state.page + 1} of ${pages}`)),
    el("div", { class: "scroll", id: "rows", style: "max-height:520px" }, el("table", {},
      el("thead", {}, el("tr", {}, ["time", "node", "what", "with", "text"].map((name) => el("th", { scope: "col" }, name)))), body)));
  followCurrent($("rows"), "tr.current");
}
// Scrolls a list, not the page, to its current item.
function followCurrent(list, selector) {
  const item = list && list.querySelector(selector);
  if (item) list.scrollTop = item.offsetTop - list.clientHeight / 2;
}
function chooseRow(event) {
  const row = event.target.closest("tr");
  if (row) select(+row.dataset.id, true);
}
