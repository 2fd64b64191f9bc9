// The utterance browser: a table to sort, filter and leaf through, and one utterance in detail.

const PAGE_SIZE = 15;
const GAP = "–"; // where the other sequence has a phone and this one none

const pairText = (reference, hypothesis) => `${reference ?? GAP} → ${hypothesis ?? GAP}`;

/** [reference label or null, hypothesis label or null] of each aligned pair; the page holds numbers of labels. */
function pairsOf(utterance, labels) {
  const label = (number) => (number < 0 ? null : labels[number]);
  const pairs = [];
  for (let i = 0; i < utterance.pairs.length; i += 2) pairs.push([label(utterance.pairs[i]), label(utterance.pairs[i + 1])]);
  return pairs;
}

function kindOf([reference, hypothesis]) {
  if (reference === null) return "inserted";
  if (hypothesis === null) return "deleted";
  return reference === hypothesis ? "correct" : "substituted";
}

const numPhones = ({ pairs }) => pairs.reduce((sum, label, i) => sum + (i % 2 === 0 && label >= 0), 0);

const COLUMNS = [
  { name: "Utterance", key: (utterance) => utterance.id, text: (id) => id },
  { name: "Speaker", key: (utterance) => utterance.speaker, text: (speaker) => speaker },
  { get name() { return unit.rate; }, key: (utterance) => utterance.per, text: (per) => percent(per, 1) },
  { name: "Length", key: (utterance) => utterance.duration, text: (seconds) => `${fixed(seconds, 1)} s` },
  { get name() { return unit.many; }, key: numPhones, text: whole },
];
const isNumeric = (column) => column > 1;

/** A filter of the text typed: an aligned pair where it has an arrow, else a part of id, speaker or words. */
function matcher(typed, labels) {
  const sides = typed.replace("->", "→").split("→").map((side) => side.trim());
  if (sides.length !== 2) {
    const wanted = sides[0].toLowerCase();
    return ({ id, speaker, text }) => [id, speaker, text].some((part) => part.toLowerCase().includes(wanted));
  }
  const numbers = new Map([...labels.map((label, i) => [label, i]), [GAP, -1], ["-", -1]]);
  const [reference, hypothesis] = sides.map((side) => numbers.get(side));
  return ({ pairs }) => pairs.some((label, i) => i % 2 === 0 && label === reference && pairs[i + 1] === hypothesis);
}

/** The section, with what others may call: select(utterance) and findPair(reference, hypothesis). */
function utteranceBrowser({ utterances, labels }, media) {
  const state = { column: 2, down: true, page: 0, chosen: null };
  const rows = el("tbody");
  const range = el("span", { role: "status" });
  const search = el("input", { type: "search", placeholder: "id, speaker, words, or ih → ah", "aria-label": "Filter utterances", oninput: filter });
  const heard = el("input", { type: "checkbox", oninput: filter });
  const previous = button("Previous", () => turn(-1));
  const next = button("Next", () => turn(1));
  const detail = el("div", { class: "detail", "aria-label": "Utterance in detail", role: "region" });
  const heads = COLUMNS.map(({ name }, i) => el("th", { scope: "col", class: isNumeric(i) ? "number" : null }, button(name, () => sortBy(i))));
  let shown = [];

  function filter() {
    const matches = matcher(search.value, labels);
    shown = utterances.filter((utterance) => matches(utterance) && (!heard.checked || utterance.audio !== undefined));
    arrange();
  }
  function sortBy(column) {
    state.down = state.column === column ? !state.down : isNumeric(column);
    state.column = column;
    arrange();
  }
  function arrange() {
    const sign = state.down ? -1 : 1;
    const keyed = shown.map((utterance) => [COLUMNS[state.column].key(utterance), utterance]);
    keyed.sort(([one], [other]) => sign * (isNumeric(state.column) ? one - other : one < other ? -1 : one > other ? 1 : 0));
    shown = keyed.map(([, utterance]) => utterance);
    heads.forEach((head, i) => {
      if (i === state.column) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    state.page = 0;
    draw();
  }
  function turn(pages) {
    state.page += pages;
    draw();
  }
  function draw() {
    const start = state.page * PAGE_SIZE;
    const end = Math.min(start + PAGE_SIZE, shown.length);
    rows.replaceChildren(...shown.slice(start, end).map(rowOf));
    range.textContent = shown.length ? `${whole(start + 1)}–${whole(end)} of ${whole(shown.length)}` : "no utterance matches";
    previous.disabled = start === 0;
    next.disabled = end === shown.length;
  }
  function rowOf(utterance) {
    const cells = COLUMNS.map(({ key, text }, i) => {
      const value = text(key(utterance));
      const sound = utterance.audio === undefined ? "" : "\u00a0♪";
      return el("td", { class: isNumeric(i) ? "number" : null }, i ? value : button(value + sound, null));
    });
    const chosen = utterance === state.chosen;
    return el("tr", { "aria-current": chosen ? "true" : null, onclick: () => select(utterance) }, cells);
  }
  function select(utterance) {
    open(utterance);
    reveal(detail);
  }
  function open(utterance) {
    state.chosen = utterance;
    const focused = rows.contains(document.activeElement) ? document.activeElement.closest("tr").rowIndex : null;
    draw();
    if (focused !== null) rows.rows[focused - 1].querySelector("button").focus({ preventScroll: true });
    detail.replaceChildren(...utteranceDetail(utterance, labels, media));
  }
  function findPair(reference, hypothesis) {
    search.value = pairText(reference, hypothesis);
    heard.checked = false;
    filter();
    reveal(node, "start");
  }

  const node = section("utterances", "Utterances",
    el("div", { class: "tools" }, search, el("label", {}, heard, " with sound only")),
    el("div", { class: "browser" },
      el("div", {},
        el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), rows)),
        el("div", { class: "pager" }, range, previous, next)),
      detail));
  filter();
  const first = shown.find((utterance) => utterance.audio !== undefined) ?? shown[0];
  if (first) open(first);
  return { node, select, findPair };
}

function utteranceDetail(utterance, labels, media) {
  const pairs = pairsOf(utterance, labels);
  const count = (kind) => pairs.filter((pair) => kindOf(pair) === kind).length;
  const facts = [
    `speaker ${utterance.speaker}`,
    utterance.gender,
    utterance.age === null ? null : `age ${whole(utterance.age)}`,
    `${fixed(utterance.duration, 2)} s`,
    `${unit.rate} ${percent(utterance.per)}: ${count("substituted")} substituted, ${count("inserted")} inserted, ${count("deleted")} deleted`,
  ];
  const kinds = ["correct", "substituted", "inserted", "deleted"];
  return [
    el("h3", {}, utterance.id),
    utterance.text ? el("p", {}, `“${utterance.text}”`) : null,
    muted(facts.filter(Boolean).join(" · ")),
    ...timeline(utterance, labels, media),
    el("h3", { style: "margin-top: 1rem" }, "Reference over hypothesis"),
    el("p", {}, kinds.map((kind) => el("span", { class: `key ${kind}` }, kind))),
    el("ul", { class: "alignment" }, pairs.map((pair) => {
      const spoken = kindOf(pair) === "correct" ? null : `${kindOf(pair)}: ${pairText(...pair)}`;
      return el("li", { class: kindOf(pair), title: spoken }, pair.map((label) => el("span", {}, label ?? GAP)));
    })),
  ].filter(Boolean);
}
