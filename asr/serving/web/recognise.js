// From samples to phones: the network hears a recording whole or in windows, and its outputs are decoded and placed
// in pieces, as asr.recognition does it.

import { align, beamSearch, bestPath, slice } from "./ctc.js";
import { logPosteriors } from "./ngram.js";
import { segments } from "./times.js";

export const RATE = 16000; // samples a second
const HOP = 160, WINDOW = 400; // samples from one feature frame to the next, and of a frame
const CORE = 2400, CONTEXT = 300; // feature frames of a window, and around it
const PIECE = 20, PAUSE = 0.3; // seconds: rough length of a piece, and of the blanks around a cut
const STRETCH = 3; // pieces that are decoded together where an n-gram remembers what was said before

// `run` is the network: samples to rows. `model` is the content of model.json, with the n-gram where there is one:
// `automaton` and `lm` of ngram.js.
export async function recognise(samples, model, run) {
  const rows = await outputs(samples, model, run);
  return stretches(rows, model).flatMap((cuts) => {
    const heard = decoded(slice(rows, cuts[0], cuts.at(-1)), model);
    return cuts.slice(1).flatMap((end, i) => {
      const start = cuts[i], offset = rounded(start * model.frame_shift);
      const last = end === rows.frames ? samples.length : Math.round(end * model.frame_shift * RATE);
      const inside = heard.filter(({ peak }) => start <= cuts[0] + peak && cuts[0] + peak < end);
      return placed(slice(rows, start, end), inside, samples.subarray(Math.round(offset * RATE), last), model)
        .map((phone) => ({ ...phone, start: rounded(phone.start + offset), end: rounded(phone.end + offset) }));
    });
  });
}

// Rows of the classes' log posteriors: of all label sequences, where the model has an n-gram.
export async function posteriors(samples, model, run) {
  const rows = await outputs(samples, model, run), { automaton } = model;
  if (!automaton) return rows;
  return joined(stretches(rows, model).map((cuts) => logPosteriors(slice(rows, cuts[0], cuts.at(-1)), automaton)));
}

const framesOf = (samples) => Math.floor((samples.length - WINDOW) / HOP) + 1;

// Whether the network hears a recording as a whole, and so with features that are normalised as in Python.
export const isWhole = (samples) => framesOf(samples) <= 2 * CORE;

const rounded = (value) => Math.round(1000 * value) / 1000;

async function outputs(samples, { subsampling }, run) {
  if (samples.length < WINDOW) throw new Error("The recording is shorter than 25 ms.");
  if (isWhole(samples)) return run(samples);
  const frames = framesOf(samples);
  const [core, context] = [CORE, CONTEXT].map((size) => size - size % subsampling), parts = [];
  for (let start = 0; start < frames; start += core) {
    const first = Math.max(0, start - context), end = Math.min(start + core + context, frames);
    const rows = await run(samples.subarray(first * HOP, (end - 1) * HOP + WINDOW));
    const before = (start - first) / subsampling;
    parts.push(slice(rows, before, Math.min(before + core / subsampling, rows.frames)));
  }
  return joined(parts);
}

function joined(parts) {
  const frames = parts.reduce((sum, part) => sum + part.frames, 0), { classes } = parts[0];
  const values = new Float32Array(frames * classes);
  parts.reduce((place, part) => { values.set(part.values, place); return place + part.values.length; }, 0);
  return { values, frames, classes };
}

// The frames at which the pieces of each stretch begin, and the one after its last. What Python hears without windows
// is one stretch; it decodes longer recordings as one, too, which would take more memory than a page should.
function stretches(rows, model) {
  const cuts = cutsOf(rows, model.frame_shift), size = model.lm ? STRETCH : 1, found = [];
  for (let i = 0; i + 1 < cuts.length; i += size) found.push(cuts.slice(i, i + size + 1));
  return found;
}

// The frames at which outputs are cut into pieces: where the blank is surest for a while.
function cutsOf({ values, frames, classes }, frameShift) {
  const target = Math.round(PIECE / frameShift), width = Math.max(Math.round(PAUSE / frameShift), 1), cuts = [0];
  const sure = (t) => {
    let sum = 0;
    for (let i = t - Math.floor(width / 2); i < t + Math.ceil(width / 2); i++) sum += values[i * classes];
    return sum;
  };
  while (frames - cuts.at(-1) > 1.5 * target) {
    const half = Math.floor(target / 2), first = cuts.at(-1) + half, last = Math.min(first + target, frames - half);
    let best = first;
    for (let t = first; t < last; t++) if (sure(t) > sure(best)) best = t;
    cuts.push(best);
  }
  return [...cuts, frames];
}

// The tokens of a stretch, with the frames and the posteriors of their peaks.
function decoded(rows, model) {
  const all = model.automaton ? logPosteriors(rows, model.automaton) : rows, isPath = model.beam_size === 1;
  const tokens = isPath ? bestPath(all) : beamSearch(rows, model.beam_size, model.lm);
  const heard = align(isPath ? all : rows, tokens).map(({ peak }, i) => (
    { token: tokens[i], peak, posterior: Math.exp(all.values[peak * all.classes + tokens[i]]) }
  ));
  return heard.some(({ posterior }) => posterior >= model.least_sure) ? heard : []; // else noise or silence
}

function placed(rows, heard, samples, model) {
  if (!heard.length) return [];
  const tokens = heard.map(({ token }) => token);
  const confidences = heard.map(({ posterior }) => rounded(calibrated(posterior, model.calibration)));
  return segments(rows, tokens, align(rows, tokens), samples, confidences, model);
}

// Linear between the points of the calibration.
function calibrated(posterior, { posteriors, probabilities }) {
  if (posteriors.length === 0) return posterior;
  const after = posteriors.findIndex((point) => point > posterior);
  if (after <= 0) return after === 0 ? probabilities[0] : probabilities.at(-1);
  const share = (posterior - posteriors[after - 1]) / (posteriors[after] - posteriors[after - 1]);
  return probabilities[after - 1] + share * (probabilities[after] - probabilities[after - 1]);
}
