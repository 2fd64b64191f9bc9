// What recognises: this browser, in place of a server.

import { writers } from "./formats.js";
import { RATE, decoded, mono } from "./sound.js";

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
model.catch(() => {}); // whoever asks for a recording to be recognised is told
navigator.serviceWorker?.register("offline.js").catch(() => {}); // without it the page needs its host each time

export class Locked extends Error {}

export function unlock() {} // there is nobody to be kept out

export async function recognise(file, { ipa }) {
  const { symbols } = await model, sound = await decoded(file);
  if (!sound) throw new Error(`This browser does not decode ${file.name}.`);
  const samples = mono(sound), result = answered();
  worker.postMessage(samples);
  const { phones, seconds } = await result;
  const written = phones.map((phone) => ({ ...phone, label: ipa ? symbols[phone.label] : phone.label }));
  return { duration: Math.round(1000 * samples.length / RATE) / 1000, phones: written, seconds };
}

export async function write(file, options, format) {
  return writers[format](await recognise(file, options), file.name);
}
