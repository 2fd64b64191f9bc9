// Boundaries moved to where the sound changes: the last step of asr.models.times.
//
// All move together, by 50 ms at most, so that the spectra within the segments differ least from their means.

const RATE = 16000, STEP = 160, FRAME = 400, SIZE = 512; // samples a second, of a step, of a frame and of its spectrum
const BINS = 26, LOWEST = 20; // triangles over frequency in mel, and Hz where the first begins
const SCALE = 32768, PREEMPHASIS = 0.97, FLOOR = 2 ** -23; // as of Kaldi's features
const MAX_SHIFT = 5, SPREAD = 2.5; // steps that a boundary moves at most, and their standard deviation
const EMPTY = 1e6; // cost of a segment without frames

const WINDOW = Float64Array.from({ length: FRAME }, (_, i) =>
  SCALE * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / (FRAME - 1))) ** 0.85);
const [COSINES, SINES] = [Math.cos, Math.sin].map((wave) =>
  Float64Array.from({ length: SIZE / 2 }, (_, k) => wave(-2 * Math.PI * k / SIZE)));
const mel = (frequency) => Math.log1p(frequency / 700);
const PLACES = Float64Array.from({ length: SIZE / 2 }, (_, k) => // of the spectrum's lines among the triangles' edges
  (mel(k * RATE / SIZE) - mel(LOWEST)) / (mel(RATE / 2) - mel(LOWEST)) * (BINS + 1));

// Return where the boundaries (seconds) move to, in the middle of some steps.
export function movedToChanges(boundaries, samples) {
  if (!boundaries.length) return boundaries;
  const { sums, squares } = accumulated(spectra(samples)), steps = squares.length - 1;
  const expected = boundaries.map((boundary) => boundary * RATE / STEP);
  const places = expected.map((place) => Array.from({ length: 2 * MAX_SHIFT + 1 }, (_, i) =>
    Math.min(Math.max(roundedToEven(place) + i - MAX_SHIFT, 0), steps)));
  return likeliest(places, expected, steps, (start, stop) => scatter(sums, squares, start, stop) / 2)
    .map((place) => place * STEP / RATE);
}

function roundedToEven(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + low % 2 : Math.round(value);
}

// Viterbi's algorithm: one place of each boundary.
function likeliest(places, expected, end, cost) {
  let before = [0], costs = [0];
  const choices = [];
  const step = (stop) => {
    let best = 0, least = Infinity;
    before.forEach((start, i) => {
      const sum = costs[i] + cost(start, stop);
      if (sum < least) [best, least] = [i, sum];
    });
    return { best, least };
  };
  places.forEach((stops, k) => {
    const found = stops.map(step);
    choices.push(found.map(({ best }) => best));
    costs = found.map(({ least }, i) => least + ((stops[i] - expected[k]) / SPREAD) ** 2 / 2);
    before = stops;
  });
  let { best } = step(end);
  const chosen = [];
  for (let k = places.length - 1; k >= 0; k--) {
    chosen.unshift(places[k][best]);
    best = choices[k][best];
  }
  return chosen;
}

// The sum of squared distances of a segment's frames from their mean, a bin.
function scatter(sums, squares, start, stop) {
  if (stop <= start) return EMPTY;
  let total = 0;
  for (let bin = 0; bin < BINS; bin++) total += (sums[stop * BINS + bin] - sums[start * BINS + bin]) ** 2;
  return (squares[stop] - squares[start] - total / (stop - start)) / BINS;
}

// Sums over the frames before each step, of the spectra less their mean, and of their squares.
function accumulated(spectra) {
  const steps = spectra.length / BINS, means = new Float64Array(BINS);
  const sums = new Float64Array((steps + 1) * BINS), squares = new Float64Array(steps + 1);
  spectra.forEach((value, i) => { means[i % BINS] += value / steps; });
  const centred = spectra.map((value, i) => value - means[i % BINS]);
  const deviation = Math.max(Math.sqrt(centred.reduce((sum, value) => sum + value * value, 0) / centred.length), 1e-6);
  for (let t = 0; t < steps; t++) {
    squares[t + 1] = squares[t];
    for (let i = t * BINS; i < (t + 1) * BINS; i++) {
      const value = centred[i] / deviation;
      sums[i + BINS] = sums[i] + value;
      squares[t + 1] += value * value;
    }
  }
  return { sums, squares };
}

// Log mel spectra, frame by frame; each frame has its step in its middle.
function spectra(samples) {
  const steps = Math.ceil(samples.length / STEP), found = new Float64Array(steps * BINS), last = samples.length - 1;
  const frame = new Float64Array(FRAME), real = new Float64Array(SIZE), imaginary = new Float64Array(SIZE);
  for (let t = 0; t < steps; t++) {
    const start = t * STEP - (FRAME - STEP) / 2;
    let mean = 0;
    for (let i = 0; i < FRAME; i++) mean += (frame[i] = samples[Math.min(Math.max(start + i, 0), last)]) / FRAME;
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < FRAME; i++) {
      real[i] = (frame[i] - mean - PREEMPHASIS * (frame[Math.max(i - 1, 0)] - mean)) * WINDOW[i];
    }
    transform(real, imaginary);
    const bins = found.subarray(t * BINS, (t + 1) * BINS);
    PLACES.forEach((place, k) => {
      const power = real[k] ** 2 + imaginary[k] ** 2, edge = Math.floor(place);
      if (edge >= 0 && edge < BINS) bins[edge] += (place - edge) * power;
      if (edge >= 1 && edge <= BINS) bins[edge - 1] += (edge + 1 - place) * power;
    });
    bins.forEach((energy, bin) => { bins[bin] = Math.log(Math.max(energy, FLOOR)); });
  }
  return found;
}

// Cooley and Tukey's Fourier transform of real values, in place.
function transform(real, imaginary) {
  for (let i = 1, j = 0; i < SIZE; i++) {
    let bit = SIZE >> 1; // j is i with its bits in reverse order
    while (j & bit) { j ^= bit; bit >>= 1; }
    j |= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let length = 2; length <= SIZE; length *= 2) {
    for (let first = 0; first < SIZE; first += length) {
      for (let k = 0; k < length / 2; k++) {
        const i = first + k, j = i + length / 2, cosine = COSINES[k * SIZE / length], sine = SINES[k * SIZE / length];
        const re = real[j] * cosine - imaginary[j] * sine, im = real[j] * sine + imaginary[j] * cosine;
        real[j] = real[i] - re; imaginary[j] = imaginary[i] - im;
        real[i] += re; imaginary[i] += im;
      }
    }
  }
}
