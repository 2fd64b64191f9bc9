// What recognises: this browser, in place of a server.

import { writers } from "./formats.js";
import { Phrases } from "./phrases.js";

const RATE = 16000, SHORTEST = 400; // Hz and samples of what the network hears
const IN_WINDOWS = "Of more than 48 s the page hears windows of 24 s, each normalised on its own: a few phones may differ from "
  + "those of asr transcribe.";
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = []; // for the worker's answers, which come in order
const answered = () => new Promise((resolve, reject) => waiting.push({ resolve, reject }));
worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.shift();
  if (data.fault) reject(new Error(data.fault));
  else resolve(data.result);
};
worker.onerror = (event) => {
  event.preventDefault();
  for (const { reject } of waiting.splice(0)) reject(new Error("A file of this page is missing or does not load."));
};
const model = answered();
model.catch(() => {}); // whoever asks for something is told
navigator.serviceWorker?.register("offline.js").catch(() => {}); // without it the page needs its host each time

export class Locked extends Error {}

export function unlock() {} // there is nobody to be kept out

export async function recognise(file, { ipa }) {
  const samples = await decoded(file), { phones, seconds, isWhole } = await ask("phones", samples);
  const found = { duration: rounded(samples.length / RATE), phones: await spelt(phones, ipa), seconds };
  return isWhole ? found : { ...found, remark: IN_WINDOWS };
}

export async function posteriors(file, { ipa }) {
  const { labels, symbols, frame_shift: frameShift } = await model;
  const { values } = await ask("posteriors", await decoded(file));
  const names = ipa ? labels.map((label) => symbols[label] ?? label) : labels;
  return { labels: names, frameShift, values: Uint8Array.from(values, (value) => Math.round(255 * Math.exp(value))) };
}

export async function convert(labels, name, format) {
  return writers[format](labels, name);
}

export function stream(rate, { ipa }, onAnswer, onEnd) {
  const phrases = new Phrases(async (parts) => {
    const samples = await resampled(parts, rate);
    const { phones } = samples.length < SHORTEST ? { phones: [] } : await ask("phones", samples);
    return { duration: samples.length / RATE, phones: await spelt(phones, ipa) };
  }, rate, onAnswer, onEnd);
  return { send: (samples) => phrases.send(samples), end: () => phrases.end() };
}

async function ask(task, samples) {
  await model;
  const result = answered();
  worker.postMessage({ task, samples });
  return result;
}

async function spelt(phones, ipa) {
  const { symbols } = await model;
  return phones.map((phone) => ({ ...phone, label: ipa ? symbols[phone.label] : phone.label }));
}

const rounded = (seconds) => Math.round(1000 * seconds) / 1000;

// The mean of a recording's channels.
async function decoded(file) {
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`This browser does not decode ${file.name}.`);
  }
  const mean = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((value, i) => { mean[i] += value / sound.numberOfChannels; });
  }
  return mean;
}

// 16-bit samples of a rate as floats of the network's.
async function resampled(parts, rate) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (!length) return new Float32Array(0);
  const context = new OfflineAudioContext(1, Math.ceil(length * RATE / rate), RATE);
  const source = new AudioBufferSourceNode(context, { buffer: new AudioBuffer({ length, sampleRate: rate }) });
  let place = 0;
  for (const part of parts) {
    source.buffer.copyToChannel(Float32Array.from(part, (value) => value / 32768), 0, place);
    place += part.length;
  }
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}
