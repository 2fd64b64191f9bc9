// N-grams of phones: what the beam search adds, and for a network trained by CTC-CRF the posteriors of its outputs.
//
// For the latter the n-gram is an automaton with few arcs, as asr.ctc.automaton makes it.
//
// A state stands for the phones so far. Arcs leave nodes: node s < states is state s, and node states + s is its blank
// alone, after which the phone of s may begin again. Other nodes only serve as backoff. A link says how much of what is
// at its source is counted at its target, too.

const TYPES = { F64: Float64Array, F32: Float32Array, U32: Uint32Array, U8: Uint8Array };
const SMALLEST = 1e-16; // posterior
const LEAST_MASS = 1e-240; // of a frame; below it, too much is lost to underflow

// The arrays of a safetensors file, by name: `class_offsets`, the first state of each class and the number of states;
// `finals`, the weight of the end in each state; arcs in the order of the nodes they leave, and links in an order in
// which those into a node precede those out of it, both with `offsets` of the arcs or links of each.
export function readArrays(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true)), start = 8 + size;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  return Object.fromEntries(Object.entries(header).map(([name, { dtype, data_offsets: [first, end] }]) =>
    [name, new TYPES[dtype](buffer.slice(start + first, start + end))]));
}

// What beamSearch adds to a prefix: log weights of all labels by the state, and the states they lead to. Of each state,
// `labels` between its `offsets` are those that it does not leave to its backoff; states are numbered so that none but
// the start, 0, backs off to one of a higher number.
export function tokenModel({ offsets, labels, targets, log_probs, shorter, backoffs, finals }, classes, weight, penalty) {
  const states = finals.length, scores = new Float64Array(states * classes), next = new Uint32Array(states * classes);
  for (let i = 1; i <= states; i++) {
    const s = i % states, start = s * classes, from = shorter[s] * classes;
    for (let c = 0; c < classes; c++) {
      scores[start + c] = scores[from + c] + backoffs[s];
      next[start + c] = next[from + c];
    }
    for (let k = offsets[s]; k < offsets[s + 1]; k++) {
      scores[start + labels[k]] = log_probs[k];
      next[start + labels[k]] = targets[k];
    }
  }
  return {
    scores: scores.map((score) => weight * score - penalty),
    next,
    finals: Float64Array.from(finals, (final) => weight * final),
  };
}

// Log posteriors of the classes over the paths of all label sequences, each with the probability of its frames times
// the weight of its labels: forward and backward sums in plain numbers, scaled in each frame. Where they vanish, the
// rows themselves.
export function logPosteriors(rows, automaton) {
  const { values, frames, classes } = rows, states = automaton.finals.length;
  const found = { values: new Float32Array(values.length), frames, classes };
  const alphas = new Float64Array((frames + 1) * 2 * states); // the blanks of all states, then their labels
  const row = (t) => alphas.subarray(2 * states * t, 2 * states * (t + 1));
  const probabilities = (t) => Float64Array.from(values.subarray(t * classes, (t + 1) * classes), Math.exp);
  row(0)[0] = 1; // the start, which is the state of the blank
  const room = { nodes: new Float64Array(automaton.arc_offsets.length - 1), came: new Float64Array(states) };
  for (let t = 0; t < frames; t++) {
    advance(automaton, probabilities(t), row(t), row(t + 1), room);
    if (!scale(row(t + 1))) return rows;
  }
  const betas = new Float64Array(2 * states);
  betas.set(automaton.finals);
  betas.set(automaton.finals, states);
  for (let t = frames - 1; t >= 0; t--) {
    const masses = massesOf(automaton.class_offsets, row(t + 1), betas);
    const total = masses.reduce((sum, mass) => sum + mass, 0);
    if (!(total > LEAST_MASS)) return rows;
    for (let c = 0; c < classes; c++) {
      found.values[t * classes + c] = Math.log(Math.min(Math.max(masses[c] / total, SMALLEST), 1));
    }
    retreat(automaton, probabilities(t), betas, room);
    scale(betas);
  }
  return found;
}

function advance(automaton, probabilities, before, after, { nodes, came }) {
  const { class_offsets: firsts, arc_offsets: offsets, arc_targets: targets, arc_weights: weights } = automaton;
  const states = came.length;
  nodes.fill(0, 2 * states);
  for (let s = 0; s < states; s++) {
    nodes[s] = before[s] + before[states + s];
    nodes[states + s] = before[s];
    after[s] = nodes[s] * probabilities[0];
  }
  const { link_targets: shared, link_offsets, link_sources: sources, link_weights: shares } = automaton;
  for (let i = 0; i < shared.length; i++) {
    for (let k = link_offsets[i]; k < link_offsets[i + 1]; k++) nodes[shared[i]] += shares[k] * nodes[sources[k]];
  }
  came.fill(0);
  for (let n = 0; n < nodes.length; n++) {
    const value = nodes[n];
    for (let a = offsets[n]; a < offsets[n + 1]; a++) came[targets[a]] += weights[a] * value;
  }
  for (let c = 0; c < probabilities.length; c++) {
    for (let s = firsts[c]; s < firsts[c + 1]; s++) {
      after[states + s] = (before[states + s] + came[s]) * probabilities[c];
    }
  }
}

// Replaces the backward sums by those of the frame before; the probabilities are those of the frame between them.
function retreat(automaton, probabilities, betas, { nodes, came: arrived }) {
  const { class_offsets: firsts, arc_offsets: offsets, arc_targets: targets, arc_weights: weights } = automaton;
  const states = arrived.length;
  for (let c = 0; c < probabilities.length; c++) {
    for (let s = firsts[c]; s < firsts[c + 1]; s++) arrived[s] = betas[states + s] * probabilities[c];
  }
  for (let n = 0; n < nodes.length; n++) {
    let sum = 0;
    for (let a = offsets[n]; a < offsets[n + 1]; a++) sum += weights[a] * arrived[targets[a]];
    nodes[n] = sum;
  }
  const { link_targets: shared, link_offsets, link_sources: sources, link_weights: shares } = automaton;
  for (let i = shared.length - 1; i >= 0; i--) {
    for (let k = link_offsets[i]; k < link_offsets[i + 1]; k++) nodes[sources[k]] += shares[k] * nodes[shared[i]];
  }
  for (let s = 0; s < states; s++) {
    const onward = betas[s] * probabilities[0] + nodes[s];
    betas[s] = onward + nodes[states + s];
    betas[states + s] = onward + arrived[s];
  }
}

// The mass of the paths that are in each class.
function massesOf(firsts, alphas, betas) {
  const classes = firsts.length - 1, states = firsts[classes], masses = new Float64Array(classes);
  for (let s = 0; s < states; s++) masses[0] += alphas[s] * betas[s];
  for (let c = 0; c < classes; c++) {
    for (let s = states + firsts[c]; s < states + firsts[c + 1]; s++) masses[c] += alphas[s] * betas[s];
  }
  return masses;
}

// Makes the sum 1, and tells whether it can.
function scale(row) {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i];
  for (let i = 0; i < row.length; i++) row[i] /= sum;
  return sum > 0;
}
