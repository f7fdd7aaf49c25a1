// The top of the page: what was promised, what was found, and what happened, in sentences.
const WITHOUT_ROW = {
  panic: "A machine never finds itself in a state that its own rules exclude: it stops with the numbers that broke them.",
  start: "A blank cluster serves soon after its start.",
};

function goTo(id) { select(id, true); $("timeline").scrollIntoView({ block: "center" }); }
function eventLink(id, label) {
  return el("button", { class: "link", type: "button", "data-event": id, onclick: () => goTo(id) }, label);
}

function renderHead() {
  const first = data.broken[0];
  const odd = data.story.find((step) => step.tone === "odd");
  const head = [
    el("div", { class: "eyebrow" }, `Cairn · a simulated run, explained · commit ${data.head.commit}`),
    el("h1", {}, first ? `Seed ${data.head.seed} broke a promise` : `Seed ${data.head.seed}: all promises held`),
  ];
  if (first) {
    head.push(el("div", { class: "card bad", id: "violation" },
      el("span", { class: "label" }, first.number ? `What was promised: number ${first.number}, ${first.when}` : "What was promised"),
      el("p", { class: "promise" }, first.promise || WITHOUT_ROW[first.checker] || "What this checker watches over."),
      el("span", { class: "label" }, `What was found${first.id >= 0 ? ` at ${seconds(times[first.id])}` : ""}, by checker “${first.checker}”`),
      el("p", { class: "found mono" }, first.text),
      odd ? el("span", { class: "label" }, "Where it most likely went wrong") : null,
      odd ? el("p", { class: "found" }, eventLink(odd.id, `${seconds(times[odd.id])}: ${odd.text}`)) : null,
      first.id >= 0 ? el("p", { class: "small" }, eventLink(first.id, "Show the moment when it was found")) : null,
      data.broken.length > 1 ? el("p", { class: "small" }, `Also broken: ${data.broken.slice(1).map((b) => `${b.checker}: ${b.text}`).join(" · ")}`) : null));
  } else {
    head.push(el("div", { class: "card good", id: "violation" },
      el("p", { class: "promise" }, "Every checker was content until the end of the run. Below is what happened, beginning with the chunk that went through most trouble.")));
  }
  const facts = el("dl", { class: "facts" }, data.head.facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const commands = data.head.commands.flatMap(([what, command]) => [
    el("div", { class: "small" }, what),
    el("div", { class: "command" }, el("code", {}, command), el("button", { type: "button", onclick: (e) => copy(command, e.target) }, "Copy")),
  ]);
  head.push(el("div", { class: "pair" },
    el("div", { class: "card" }, el("h2", {}, "What was run"), facts),
    el("div", { class: "card" }, el("h2", {}, "Do it again"), commands)));
  $("head").append(...head);
}

function copy(text, button) {
  const done = () => { button.textContent = "Copied"; setTimeout(() => (button.textContent = "Copy"), 1500); };
  const byHand = () => {
    const range = document.createRange();
    range.selectNodeContents(button.previousSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected";
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand);
  else byHand();
}

const TAGS = { fault: "fault", odd: "look here", broken: "promise broken" };
function renderStory() {
  const chunk = data.focus[1], file = data.focus[2];
  const subject = chunk >= 0 ? `What happened to chunk ${chunk}` : "What was asked and answered before";
  const of = chunk >= 0 && file >= 0 ? `A chunk is a piece of a file; this one belongs to ${data.files[file]}. ` : "";
  const steps = data.story.map((step) => el("li", { class: step.tone, "data-step": step.id },
    el("time", { class: "mono" }, seconds(times[step.id], 4)),
    el("div", { class: "what" },
      TAGS[step.tone] ? el("span", { class: `tag ${step.tone}` }, TAGS[step.tone]) : null,
      eventLink(step.id, step.text),
      step.holds ? el("span", { class: "holds" }, step.holds) : null)));
  $("story").append(el("h2", { id: "story-title" }, subject),
    el("p", { class: "hint" }, `${of}Read from the top; each step leads to its place in the timeline below. Steps marked “look here” are wrong by themselves.`),
    steps.length ? el("ol", { class: "steps" }, steps) : el("p", {}, "No chunk is concerned: look at the timeline."));
}

const GLOSSARY = [
  ["master", "Knows every name, file and chunk, and decides. It keeps a log on its disk."],
  ["chunkserver (cs0, cs1, …)", "Keeps replicas of chunks as files on its disks."],
  ["client", "Reads and writes on behalf of users."],
  ["chunk, replica", "A file is cut into chunks; each chunk is kept on several chunkservers, each copy is a replica."],
  ["grant, version", "The master's leave to write a chunk under a version, naming its members. A later version ends the earlier one."],
  ["primary", "The first member. It tells the writer when enough members hold a record."],
  ["staged, ready, committed", "Bytes arrive (staged), are promised to survive (ready), and are acknowledged to the writer once enough members are ready (committed)."],
  ["fence, vote", "When writing is in trouble the master asks members to take no more bytes under a version, and how many they hold."],
  ["seal", "The master settles the chunk's final length by the votes. Everything committed must be in it."],
  ["copy, drop", "Missing replicas are copied from good ones; wrong or needless ones are dropped."],
  ["on disk", "Bytes that would survive a power cut: written and synced."],
];
function renderWords() {
  $("words").append(el("h2", { id: "words-title" }, "Words used here"),
    el("dl", {}, GLOSSARY.flatMap(([word, meaning]) => [el("dt", {}, word), el("dd", {}, meaning)])));
}
