// A recording's samples, outside the page's own thread, which an hour of them would hold up.

import { ROW, SPECTRUM, WAVE, drawPosteriors, drawSound, survey } from "./picture.js";
import { wavOf } from "./wav.js";

let sound = null, rate = 0, posteriors = null;

const work = {
  // Take samples (int16).
  load(message) {
    ({ rate } = message);
    sound = survey(message.samples);
    return {};
  },
  // Take posteriors: labels, values (a row of bytes a frame) and frameShift (seconds).
  setPosteriors(message) {
    ({ posteriors } = message);
    return {};
  },
  // Return a tile of a layer of the picture.
  tile({ layer, tile }) {
    const height = layer === "sound" ? WAVE + SPECTRUM : ROW * posteriors.labels.length;
    const canvas = new OffscreenCanvas(tile.width, Math.round(height * tile.ratio));
    const pen = canvas.getContext("2d");
    if (layer === "sound") drawSound(pen, sound, rate, tile);
    else drawPosteriors(pen, posteriors, tile);
    return { bitmap: canvas.transferToImageBitmap() };
  },
  // Return samples between two times, as floats.
  read({ start, end }) {
    const found = sound.samples.subarray(Math.round(start * rate), Math.round(end * rate));
    return { samples: Float32Array.from(found, (value) => value / 32768) };
  },
  wav() {
    return { blob: wavOf([sound.samples], rate) };
  },
};

onmessage = ({ data: { id, task, ...message } }) => {
  const answer = work[task](message);
  postMessage({ id, ...answer }, [answer.bitmap, answer.samples?.buffer].filter(Boolean));
};
