// A row of labels in time. Only those that are seen are elements of the page, however many there are.

const MOST = 400; // labels that are shown at once; more would be narrower than their letters
const MARKS = { fair: " ~", wrong: " ✗" }; // so that nothing rests on colours alone
const DOUBTFUL = 0.5; // confidence below which a label is underlined

export class Tier {
  #segments = [];
  #buttons = new Map(); // by their segments' numbers
  #active = 0; // the number of the one that the Tab key leads to

  constructor(name, timeline) {
    this.name = name;
    this.timeline = timeline;
    this.element = document.createElement("div");
    this.element.className = "tier";
    this.element.dataset.name = name;
    this.element.setAttribute("role", "toolbar");
    this.element.setAttribute("aria-label", name);
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.note = document.createElement("span");
    this.note.className = "note";
  }

  set(segments) {
    this.#segments = segments;
    this.#active = Math.min(this.#active, segments.length - 1);
    for (const [index, button] of this.#buttons) {
      if (index >= segments.length) button.remove();
      else if (button.segment !== segments[index]) fill(button, segments[index]);
    }
    this.#buttons.forEach((_, index) => index >= segments.length && this.#buttons.delete(index));
  }

  // Show what lies between two times.
  draw(start, end) {
    const from = firstWhere(this.#segments, (each) => each.end > start);
    const to = firstWhere(this.#segments, (each) => each.start >= end);
    const isCrowded = to - from > MOST;
    const wanted = new Set(isCrowded ? [] : Array.from({ length: to - from }, (_, i) => from + i));
    if (!isCrowded && !wanted.has(this.#active)) {
      if (this.#hasFocus) wanted.add(this.#active);
      else if (from < to) this.#active = from;
    }
    if (isCrowded && this.#hasFocus) this.timeline.element.focus({ preventScroll: true });
    for (const [index, button] of this.#buttons) {
      if (!wanted.has(index)) { button.remove(); this.#buttons.delete(index); }
    }
    const said = [...wanted].filter((index) => this.#isSaid(index)).sort((a, b) => a - b);
    said.forEach((index, place) => {
      const button = this.#buttons.get(index) ?? this.#make(index);
      button.style.left = `${this.timeline.scale * button.segment.start}px`;
      button.style.width = `${this.timeline.scale * (button.segment.end - button.segment.start)}px`;
      button.tabIndex = index === this.#active ? 0 : -1;
      const there = this.element.children[place] ?? null;
      if (there !== button) this.element.insertBefore(button, there);
    });
    this.note.textContent = isCrowded ? `Zoom in to see ${to - from} ${this.name}` : "";
    if (isCrowded) this.element.append(this.note);
    else this.note.remove();
  }

  #isSaid(index) { return this.#segments[index].end > this.#segments[index].start; }

  get #hasFocus() { return this.element.contains(document.activeElement); }

  #make(index) {
    const button = document.createElement("button");
    button.type = "button";
    fill(button, this.#segments[index]);
    button.addEventListener("click", () => {
      this.#active = index;
      this.timeline.actions.select(this.name, index);
      this.timeline.actions.play(button.segment.start, button.segment.end, button);
    });
    button.addEventListener("focus", () => this.timeline.actions.select(this.name, index));
    this.#buttons.set(index, button);
    return button;
  }

  // Give a segment the focus, wherever it is.
  focus(index) {
    this.#active = index;
    const { start, end } = this.#segments[index];
    this.timeline.reveal(start, end);
    this.#buttons.get(index)?.focus({ preventScroll: true });
  }

  mark(index) {
    for (const [number, button] of this.#buttons) button.classList.toggle("selected", number === index);
  }

  // The nearest boundary to a time, at most `most` seconds away; undefined if there is none.
  boundaryNear(time, most) {
    const index = firstWhere(this.#segments, (each) => each.end > time);
    const near = this.#segments.slice(Math.max(0, index - 1), index + 2);
    const times = near.flatMap(({ start, end }) => [start, end]);
    const distances = times.map((each) => Math.abs(each - time)), least = Math.min(...distances);
    return least <= most ? times[distances.indexOf(least)] : undefined;
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], last = this.#segments.length - 1;
    let there = { Home: 0, End: last }[event.key] ?? (step && this.#active + step);
    while (this.#segments[there] && !this.#isSaid(there)) there += step ?? (there ? -1 : 1);
    if (!this.#segments[there] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.focus(there);
  }
}

function fill(button, segment) {
  const { label, start, end, confidence, grade, score, accuracy, edited } = segment;
  const facts = [`${start.toFixed(2)} to ${end.toFixed(2)} s`];
  if (edited) facts.push("edited");
  if (score === null || accuracy === null) facts.push(grade, "not heard, no score");
  else if (grade && score === undefined) facts.push(grade, `accuracy ${accuracy.toFixed(1)} of 10`);
  else if (grade) facts.push(grade, `score ${score.toFixed(1)} of 2`);
  else if (confidence != null) facts.push(`confidence ${confidence.toFixed(2)}`);
  button.segment = segment;
  button.textContent = label + (MARKS[grade] ?? "");
  button.title = `${label}: ${facts.join(", ")}`;
  button.setAttribute("aria-label", button.title);
  button.dataset.look = grade ?? (confidence == null ? "plain" : confidence < DOUBTFUL ? "doubtful" : "sure");
  button.style.setProperty("--sure", confidence ?? 1);
}

// The number of the first segment for which something holds, if it holds for all that follow.
function firstWhere(segments, holds) {
  let low = 0, high = segments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(segments[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
