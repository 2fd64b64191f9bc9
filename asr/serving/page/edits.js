// Changes of labels and boundaries. Each returns new tiers and leaves the old ones alone, which makes undoing easy.
//
// Tiers are lists of segments by name, in order: { words: [{ label, start, end, … }], phones: […] }.

export const SHORTEST = 0.01; // seconds
const SAME = 0.0005; // seconds between times that are one boundary

const isSame = (one, other) => Math.abs(one - other) < SAME;
const round = (time) => Math.round(1000 * time) / 1000;

// Move a boundary: all segments that begin or end there go along, whatever their tier. It stays between its neighbours.
export function moveBoundary(tiers, from, to, duration) {
  let least = 0, most = duration;
  for (const segments of Object.values(tiers)) {
    for (const { start, end } of segments) {
      if (isSame(start, from) && isSame(end, from)) continue; // a word that is not said
      if (isSame(start, from)) most = Math.min(most, end - SHORTEST);
      else if (start > from) most = Math.min(most, start);
      if (isSame(end, from)) least = Math.max(least, start + SHORTEST);
      else if (end < from) least = Math.max(least, end);
    }
  }
  if (least > most) return tiers;
  const time = round(Math.max(least, Math.min(most, to)));
  const move = (segment) => {
    const [start, end] = [segment.start, segment.end].map((each) => (isSame(each, from) ? time : each));
    return start === segment.start && end === segment.end ? segment : { ...segment, start, end, edited: true };
  };
  return Object.fromEntries(Object.entries(tiers).map(([name, segments]) => [name, segments.map(move)]));
}

// Give a segment another label, for which no confidence or score is known; a label of nothing takes it away.
export function relabel(tiers, name, index, label) {
  const segments = [...tiers[name]], { start, end } = segments[index];
  if (label === segments[index].label) return tiers;
  segments.splice(index, 1, ...(label ? [{ label, start, end, edited: true }] : []));
  return { ...tiers, [name]: segments };
}

// The states of tiers, of which the last one stands until it is undone.
export class History {
  #past = [];
  #future = [];

  constructor(tiers) { this.tiers = tiers; }

  get canUndo() { return this.#past.length > 0; }

  get canRedo() { return this.#future.length > 0; }

  do(tiers) {
    if (tiers === this.tiers) return;
    this.#past.push(this.tiers);
    this.#future = [];
    this.tiers = tiers;
  }

  undo() { this.#step(this.#past, this.#future); }

  redo() { this.#step(this.#future, this.#past); }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.tiers);
    this.tiers = from.pop();
  }
}
