// The picture of a recording, in tiles of equal width: waveform and spectrogram, and a heat map of posteriors.
//
// A tile has its number, its width in pixels, and the pixels that a second is wide. It is drawn in one ink on
// transparent ground, so that it fits light and dark pages.

import { WINDOW, addPowers, level } from "./spectrum.js";

export const WAVE = 64, SPECTRUM = 128; // heights in pixels of the page
export const ROW = 9; // height of a label in the heat map
const BLOCK = 256; // samples whose extremes are kept
const RANGE = 70; // dB from the loudest frequency down to what is not drawn
const MOST_SPECTRA = 4; // that a column is the mean of

// What is known of samples (int16) before any tile is drawn.
export function survey(samples) {
  const count = Math.ceil(samples.length / BLOCK), lows = new Int16Array(count), highs = new Int16Array(count);
  let peak = 1;
  for (let block = 0; block < count; block++) {
    const end = Math.min((block + 1) * BLOCK, samples.length);
    let low = 0, high = 0;
    for (let i = block * BLOCK; i < end; i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    lows[block] = low; highs[block] = high;
    peak = Math.max(peak, -low, high);
  }
  let loudest = 0;
  const step = Math.max(WINDOW, Math.floor(samples.length / 2000));
  for (let i = 0; i < samples.length; i += step) {
    const powers = new Float32Array(WINDOW / 2);
    addPowers(samples, i, powers);
    loudest = powers.reduce((most, power) => Math.max(most, power), loudest);
  }
  return { samples, lows, highs, peak, loudest: level(loudest) };
}

// Draw waveform and spectrogram; `ratio` is that of the screen's pixels to the page's.
export function drawSound(pen, sound, rate, { number, width, scale, ratio, ink }) {
  const first = (number * width * rate) / scale, step = rate / scale; // samples
  const wave = Math.round(WAVE * ratio), image = transparent(pen, width, Math.round(SPECTRUM * ratio), ink);
  const unit = wave / 2 / sound.peak;
  pen.fillStyle = `rgb(${ink})`;
  for (let x = 0; x < width; x++) {
    const start = Math.round(first + x * step), end = Math.round(first + (x + 1) * step);
    if (start >= sound.samples.length) break;
    const [low, high] = extremes(sound, start, Math.max(end, start + 1));
    pen.fillRect(x, wave / 2 - unit * high, 1, Math.max(1, unit * (high - low)));
    drawColumn(image, x, spectrumOf(sound.samples, start, step), sound.loudest);
  }
  pen.putImageData(image, 0, wave);
}

function extremes({ samples, lows, highs }, start, end) {
  let low = 0, high = 0;
  const isLong = end - start > 4 * BLOCK;
  const [lowest, highest, from, to] = isLong
    ? [lows, highs, Math.floor(start / BLOCK), Math.min(Math.ceil(end / BLOCK), lows.length)]
    : [samples, samples, start, Math.min(end, samples.length)];
  for (let i = from; i < to; i++) {
    if (lowest[i] < low) low = lowest[i];
    if (highest[i] > high) high = highest[i];
  }
  return [low, high];
}

function spectrumOf(samples, start, step) {
  const powers = new Float32Array(WINDOW / 2), count = Math.max(1, Math.min(MOST_SPECTRA, Math.floor(step / WINDOW)));
  for (let i = 0; i < count; i++) {
    const centre = start + ((i + 0.5) * step) / count;
    addPowers(samples, Math.round(centre - WINDOW / 2), powers);
  }
  return powers.map((power) => power / count);
}

// Return an image of one colour that cannot be seen until opacities are set.
function transparent(pen, width, height, [red, green, blue]) {
  const image = pen.createImageData(width, height);
  new Uint32Array(image.data.buffer).fill(red | (green << 8) | (blue << 16)); // browsers' machines are little-endian
  return image;
}

function drawColumn({ width, height, data }, x, powers, loudest) {
  for (let y = 0; y < height; y++) {
    const power = powers[Math.floor(((height - 1 - y) / height) * powers.length)];
    const opacity = Math.max(0, Math.min(1, 1 + (level(power) - loudest) / RANGE)) ** 2;
    data[4 * (y * width + x) + 3] = 255 * opacity;
  }
}

// Draw the heat map: each label has a row, whose opacity is the highest posterior of the column's frames.
export function drawPosteriors(pen, { labels, values, frameShift }, { number, width, scale, ratio, ink }) {
  const count = labels.length, frames = values.length / count, top = (row) => Math.round(row * ROW * ratio);
  const image = transparent(pen, width, top(count), ink);
  for (let x = 0; x < width; x++) {
    const time = (number * width + x) / scale;
    const from = Math.floor(time / frameShift), to = Math.max(from + 1, Math.floor((time + 1 / scale) / frameShift));
    if (from >= frames) break;
    for (let row = 0; row < count; row++) {
      let most = 0;
      for (let frame = from; frame < Math.min(to, frames); frame++) most = Math.max(most, values[frame * count + row]);
      for (let y = top(row); y < top(row + 1) - 1; y++) image.data[4 * (y * width + x) + 3] = most;
    }
  }
  pen.putImageData(image, 0, 0);
}
