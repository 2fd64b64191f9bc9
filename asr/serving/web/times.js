// Starts and ends of phones, as asr.models.times finds them: from the places of CTC's labels, from the quiet between
// them, and from where the sound changes.

import { movedToChanges } from "./changes.js";
import { meanPlaces } from "./ctc.js";

const RATE = 16000, STEP = 160; // samples a second, and of a step of 10 ms
const NEAR = 3; // frames from the likeliest path's
const MIN_PAUSE = 0.08, FADE = 0.02, ATTACK = 0.03, REACH = 0.25; // seconds
const QUIET_SHARE = 0.3, RANGE = 40; // of the range of levels, which is so many dB at most
const LOWEST = RATE / 80; // samples in a period of 80 Hz

// `places` are those of `align`, in frames of frameShift seconds; confidences are calibrated already.
export function segments(rows, tokens, places, samples, confidences, model) {
  const { labels, frame_shift, boundary_offset, silences } = model;
  const duration = samples.length / RATE, quiet = quietSteps(samples);
  const inside = (time) => Math.min(Math.max(time, 0), duration);
  const spans = meanPlaces(rows, tokens, places, NEAR)
    .map((span) => span.map((frame) => inside(frame * frame_shift + boundary_offset)));
  const phones = tokens.map((token, i) => (
    { label: labels[token], start: 0, end: duration, confidence: confidences[i] }
  ));
  const edges = []; // between phones and pauses: what they bound, and when
  for (let i = 0; i <= phones.length; i++) {
    const left = phones[i - 1], right = phones[i];
    const start = left ? spans[i - 1][1] : 0, end = right ? spans[i][0] : duration;
    const isSilent = [left, right].some((phone) => silences.includes(phone?.label));
    const pause = !isSilent && pauseIn(start, end, quiet, left, right);
    if (pause && left) edges.push({ left, time: pause[0] });
    if (pause && right) edges.push({ right, time: pause[1] });
    if (!pause && left && right) edges.push({ left, right, time: (start + end) / 2 });
  }
  let last = 0;
  movedToChanges(edges.map(({ time }) => time), samples).forEach((time, i) => {
    const { left, right } = edges[i];
    last = Math.max(last, inside(time));
    if (left) left.end = last;
    if (right) right.start = last;
  });
  return phones;
}

// Where the pause begins and ends in the gap between two phones, if there is one.
function pauseIn(start, end, quiet, left, right) {
  let late = left ? start + REACH : 0, early = right ? end - REACH : end;
  const [low, high] = longestRun(quiet, start, end);
  if (high - low >= MIN_PAUSE - STEP / RATE / 2) {
    if (left) late = Math.min(late, low + FADE);
    if (right) early = Math.max(early, high - ATTACK);
  }
  return early - late >= STEP / RATE && [late, early];
}

function longestRun(quiet, start, end) {
  const step = STEP / RATE, last = Math.ceil(end / step);
  let longest = [start, start];
  for (let i = Math.floor(start / step); i < last; i++) {
    let stop = i;
    while (stop < last && quiet[stop]) stop++;
    const run = [Math.max(start, i * step), Math.min(end, stop * step)];
    if (run[1] - run[0] > longest[1] - longest[0]) longest = run;
    i = stop;
  }
  return longest;
}

// Whether the middle 20 ms of each step of 10 ms are near the recording's own lowest level.
function quietSteps(samples) {
  const filtered = highPass(highPass(samples)), sums = new Float64Array(samples.length + 1);
  filtered.forEach((value, i) => { sums[i + 1] = sums[i] + value * value; });
  const levels = Float64Array.from({ length: Math.ceil(samples.length / STEP) }, (_, i) => {
    const low = Math.max(i * STEP - STEP / 2, 0), high = Math.min(i * STEP + 3 * STEP / 2, samples.length);
    return 10 * Math.log10((sums[high] - sums[low]) / (high - low) + 1e-10);
  });
  const sorted = levels.slice().sort(), top = quantile(sorted, 0.95);
  const bottom = Math.max(quantile(sorted, 0.02), top - RANGE);
  return levels.map((level) => level < bottom + QUIET_SHARE * (top - bottom));
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// The samples less their moving average over a period of 80 Hz; beyond the edges the first and last one are repeated.
function highPass(samples) {
  const before = LOWEST / 2, last = samples.length - 1, filtered = new Float64Array(samples.length);
  const at = (i) => samples[Math.min(Math.max(i, 0), last)];
  let sum = 0;
  for (let i = -before; i < LOWEST - before; i++) sum += at(i);
  for (let i = 0; i <= last; i++) {
    filtered[i] = samples[i] - sum / LOWEST;
    sum += at(i + LOWEST - before) - at(i - before);
  }
  return filtered;
}
