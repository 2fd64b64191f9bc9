// Decoding and alignment of CTC's outputs, as asr.ctc does them.
//
// `rows` are natural logs of posteriors: { values, frames, classes }, frame by frame; class 0 is the blank.

export const slice = ({ values, classes }, start, end) => ({
  values: values.subarray(start * classes, end * classes), frames: end - start, classes,
});

// The most probable class of each frame, without repeats and blanks.
export function bestPath({ values, frames, classes }) {
  const tokens = [];
  for (let t = 0, last = 0; t < frames; t++) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (values[t * classes + c] > values[t * classes + best]) best = c;
    if (best !== last && best !== 0) tokens.push(best);
    last = best;
  }
  return tokens;
}

function logAdd(a, b) {
  const high = Math.max(a, b), low = Math.min(a, b);
  return low === -Infinity ? high : high + Math.log1p(Math.exp(low - high));
}

// The most probable labelling, summed over its paths: prefix beam search. A prefix is a node of a tree, with the log
// probabilities of its paths that end in a blank, in its last label, and in either. A language model adds to them: its
// state 0 is the start, and `scores` and `next` are what a label adds in a state and where it leads, state by state.
export function beamSearch({ values, frames, classes }, beamSize, lm = noModel(classes)) {
  let beam = [{ parent: null, token: 0, children: new Map(), state: 0, blank: 0, label: -Infinity, ends: 0, seen: 0 }];
  for (let t = 0; t < frames; t++) {
    const row = values.subarray(t * classes, (t + 1) * classes);
    for (const prefix of beam) prefix.seen = t + 1; // in this frame's beam
    const candidates = beam.map((prefix) => stay(prefix, row, t + 1, lm));
    const floor = beam.length < beamSize ? -Infinity : Math.min(...candidates.map(({ ends }) => ends));
    for (const prefix of beam) {
      for (let token = 1; token < classes; token++) {
        const label = begun(prefix, token, row, lm);
        if (label <= floor || prefix.children.get(token)?.seen === t + 1) continue; // that one stays, and has this path
        candidates.push({ prefix, token, blank: -Infinity, label, ends: label });
      }
    }
    candidates.sort((a, b) => b.ends - a.ends);
    beam = candidates.slice(0, beamSize).map(({ prefix, token, blank, label, ends }) =>
      Object.assign(token ? extended(prefix, token, lm, classes) : prefix, { blank, label, ends }));
  }
  const total = ({ ends, state }) => ends + lm.finals[state];
  const tokens = [], best = beam.reduce((one, other) => (total(other) > total(one) ? other : one));
  for (let prefix = best; prefix.parent; prefix = prefix.parent) tokens.push(prefix.token);
  return tokens.reverse();
}

const noModel = (classes) => (
  { scores: new Float64Array(classes), next: new Uint32Array(classes), finals: new Float64Array(1) }
);

// What becomes of a prefix that stays as it is for a frame. It is also reached by its parent, if that is in the beam.
function stay(prefix, row, stamp, lm) {
  const { parent, token } = prefix, blank = prefix.ends + row[0];
  let label = -Infinity;
  if (parent) label = prefix.label + row[token];
  if (parent?.seen === stamp) label = logAdd(label, begun(parent, token, row, lm));
  return { prefix, token: 0, blank, label, ends: logAdd(blank, label) };
}

// The log probability of a prefix's paths that go on with a token; one that repeats needs a blank between.
function begun({ token: last, state, blank, ends }, token, row, lm) {
  return (token === last ? blank : ends) + row[token] + lm.scores[state * row.length + token];
}

function extended(parent, token, lm, classes) {
  if (!parent.children.has(token)) {
    const state = lm.next[parent.state * classes + token];
    parent.children.set(token, { parent, token, children: new Map(), state, seen: 0 });
  }
  return parent.children.get(token);
}

// The states of the paths of some tokens: a blank before, between and after them.
function spell(tokens) {
  return [0, ...tokens.flatMap((token) => [token, 0])];
}

// The likeliest path of given tokens: the first frame of each, the one after its last, and its likeliest one.
export function align({ values, frames, classes }, tokens) {
  const spelt = spell(tokens), states = spelt.length;
  const steps = new Uint8Array(frames * states); // from how many states before
  let scores = new Float64Array(states).fill(-Infinity), next = new Float64Array(states);
  scores[0] = 0; // as if paths came to frame 0 from a blank
  for (let t = 0; t < frames; t++) {
    for (let s = 0; s < states; s++) {
      let step = 0;
      if (s > 0 && scores[s - 1] > scores[s]) step = 1;
      if (s % 2 && s > 2 && spelt[s] !== spelt[s - 2] && scores[s - 2] > scores[s - step]) step = 2;
      steps[t * states + s] = step;
      next[s] = scores[s - step] + values[t * classes + spelt[s]];
    }
    [scores, next] = [next, scores];
  }
  const places = tokens.map(() => ({ start: 0, end: 0, peak: 0 }));
  let state = states > 1 && scores[states - 2] > scores[states - 1] ? states - 2 : states - 1;
  for (let t = frames - 1; t >= 0; t--) {
    if (state % 2) {
      const place = places[(state - 1) / 2], value = (frame) => values[frame * classes + spelt[state]];
      if (place.end === 0) Object.assign(place, { end: t + 1, peak: t });
      place.start = t;
      if (value(t) >= value(place.peak)) place.peak = t;
    }
    state -= steps[t * states + state];
  }
  return places;
}

// The mean start and end of each token, in frames, over all paths, within `near` frames of the likeliest one's place:
// forward and backward sums in plain numbers, scaled in each frame. Where they vanish, the likeliest path's place.
export function meanPlaces({ values, frames, classes }, tokens, places, near) {
  const spelt = spell(tokens), states = spelt.length, alphas = [], probabilities = new Float64Array(states);
  const listen = (t) => spelt.forEach((token, s) => { probabilities[s] = Math.exp(values[t * classes + token]); });
  let row = new Float64Array(states);
  row[0] = 1; // as if paths came to frame 0 from a blank
  for (let t = 0; t < frames; t++) {
    const next = new Float64Array(states);
    listen(t);
    for (let s = 0; s < states; s++) {
      let came = row[s];
      if (s > 0) came += row[s - 1];
      if (s > 2 && s % 2) came += row[s - 2]; // from label to label
      next[s] = came * probabilities[s];
    }
    row = scale(next);
    alphas.push(row);
  }
  let betas = new Float64Array(states).fill(1, states - 2);
  const sums = tokens.map(() => ({ centre: 0, length: 0 }));
  for (let t = frames - 1; t >= 0; t--) {
    const next = new Float64Array(states);
    let whole = 0;
    listen(t);
    for (let s = 0; s < states; s++) whole += alphas[t][s] * betas[s];
    for (let i = 0; i < tokens.length; i++) {
      if (t < places[i].start - near || t >= places[i].end + near) continue;
      const posterior = alphas[t][2 * i + 1] * betas[2 * i + 1] / whole;
      sums[i].centre += posterior * (t + 0.5);
      sums[i].length += posterior;
    }
    for (let s = 0; s < states; s++) betas[s] *= probabilities[s];
    for (let s = 0; s < states; s++) {
      next[s] = betas[s];
      if (s + 1 < states) next[s] += betas[s + 1];
      if (s + 2 < states && s % 2) next[s] += betas[s + 2];
    }
    betas = scale(next);
  }
  return sums.map(({ centre, length }, i) => {
    if (!(length > 0)) return [places[i].start, places[i].end];
    return [centre / length - length / 2, centre / length + length / 2];
  });
}

function scale(row) {
  let sum = 0;
  for (let s = 0; s < row.length; s++) sum += row[s];
  for (let s = 0; s < row.length; s++) row[s] /= sum;
  return row;
}
