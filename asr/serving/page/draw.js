// The picture of a recording. Only what is visible of it is drawn, however long the sound is.

import { WINDOW, spectrum } from "./spectrum.js";

export const WAVE = 64, SPECTRUM = 128, RULER = 18; // heights of the parts of the picture, in pixels
const RANGE = 70; // dB from the loudest frequency down to what is not drawn

// Draw what is visible of a sound: from `first` (seconds) on, `scale` pixels a second, `width` pixels wide.
// The sound has samples, rate (Hz), peak and loudest (dB); null leaves the ruler alone.
export function draw(canvas, sound, { first, scale, width }) {
  const height = WAVE + SPECTRUM + RULER, ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--picture"), muted = style.getPropertyValue("--muted");
  if (sound) {
    drawSpectrogram(pen, sound, first, scale * ratio, canvas.width, ratio, ink.split(",").map(Number));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawWave(pen, sound, first, scale, width, `rgb(${ink})`);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawRuler(pen, first, scale, width, muted);
}

function drawWave(pen, { samples, rate, peak }, first, scale, width, ink) {
  pen.fillStyle = ink;
  for (let x = 0; x < width; x++) {
    const start = Math.round((first + x / scale) * rate), end = start + Math.ceil(rate / scale);
    let low = 0, high = 0;
    for (let i = start; i < Math.min(end, samples.length); i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const unit = WAVE / 2 / peak;
    pen.fillRect(x, WAVE / 2 - unit * high, 1, Math.max(1, unit * (high - low)));
  }
}

function drawSpectrogram(pen, { samples, rate, loudest }, first, scale, width, ratio, [red, green, blue]) {
  const height = Math.round(SPECTRUM * ratio), image = pen.createImageData(width, height);
  for (let x = 0; x < width; x++) {
    const centre = Math.round((first + x / scale) * rate);
    if (centre >= samples.length) break;
    const levels = spectrum(samples, centre - WINDOW / 2);
    for (let y = 0; y < height; y++) {
      const level = 1 + (levels[Math.floor((height - 1 - y) / height * levels.length)] - loudest) / RANGE;
      const opacity = Math.max(0, Math.min(1, level)) ** 2;
      image.data.set([red, green, blue, 255 * opacity], 4 * (y * width + x));
    }
  }
  pen.putImageData(image, 0, Math.round(WAVE * ratio));
}

function drawRuler(pen, first, scale, width, ink) {
  pen.fillStyle = ink;
  pen.font = "12px system-ui, sans-serif";
  for (let second = Math.floor(first); second <= first + width / scale; second++) {
    const x = scale * (second - first);
    pen.fillRect(x, WAVE + SPECTRUM, 1, RULER);
    pen.fillText(`${second} s`, x + 4, WAVE + SPECTRUM + RULER - 5);
  }
}
