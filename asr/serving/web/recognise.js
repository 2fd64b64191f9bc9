// From samples to phones: the network hears a recording whole or in windows, and its outputs are decoded in pieces, as
// asr.recognition does it.

import { align, beamSearch, bestPath, slice } from "./ctc.js";
import { segments } from "./times.js";

export const RATE = 16000; // samples a second
const HOP = 160, WINDOW = 400; // samples from one feature frame to the next, and of a frame
const CORE = 2400, CONTEXT = 300; // feature frames of a window, and around it
const PIECE = 20, PAUSE = 0.3; // seconds: rough length of a piece, and of the blanks around a cut
const SURE = 0.5; // posterior of a phone, which is higher in all speech

// `run` is the network: samples to rows. `model` is the content of model.json.
export async function recognise(samples, model, run) {
  const rows = await outputs(samples, model, run), cuts = cutsOf(rows, model.frame_shift);
  return cuts.slice(1).flatMap((end, i) => {
    const start = cuts[i], last = end === rows.frames ? samples.length : Math.round(end * model.frame_shift * RATE);
    const offset = start * model.frame_shift;
    return phonesOf(slice(rows, start, end), samples.subarray(Math.round(offset * RATE), last), model)
      .map((phone) => ({ ...phone, start: rounded(phone.start + offset), end: rounded(phone.end + offset) }));
  });
}

const rounded = (value) => Math.round(1000 * value) / 1000;

export async function outputs(samples, { subsampling }, run) {
  if (samples.length < WINDOW) throw new Error("The recording is shorter than 25 ms.");
  const frames = Math.floor((samples.length - WINDOW) / HOP) + 1;
  if (frames <= 2 * CORE) return run(samples);
  const [core, context] = [CORE, CONTEXT].map((size) => size - size % subsampling), parts = [];
  for (let start = 0; start < frames; start += core) {
    const first = Math.max(0, start - context), end = Math.min(start + core + context, frames);
    const rows = await run(samples.subarray(first * HOP, (end - 1) * HOP + WINDOW));
    const before = (start - first) / subsampling;
    parts.push(slice(rows, before, Math.min(before + core / subsampling, rows.frames)));
  }
  const total = parts.reduce((sum, part) => sum + part.frames, 0), { classes } = parts[0];
  const values = new Float32Array(total * classes);
  parts.reduce((place, part) => { values.set(part.values, place); return place + part.values.length; }, 0);
  return { values, frames: total, classes };
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

function phonesOf(rows, samples, model) {
  const tokens = model.beam_size === 1 ? bestPath(rows) : beamSearch(rows, model.beam_size);
  const places = align(rows, tokens);
  const posteriors = places.map(({ peak }, i) => Math.exp(rows.values[peak * rows.classes + tokens[i]]));
  if (!posteriors.some((posterior) => posterior >= model.least_sure)) return []; // noise or silence
  const confidences = posteriors.map((posterior) => rounded(calibrated(posterior, model.calibration)));
  return segments(rows, tokens, places, samples, confidences, model);
}

// Linear between the points of the calibration.
function calibrated(posterior, { posteriors, probabilities }) {
  if (posteriors.length === 0) return posterior;
  const after = posteriors.findIndex((point) => point > posterior);
  if (after <= 0) return after === 0 ? probabilities[0] : probabilities.at(-1);
  const share = (posterior - posteriors[after - 1]) / (posteriors[after] - posteriors[after - 1]);
  return probabilities[after - 1] + share * (probabilities[after] - probabilities[after - 1]);
}
