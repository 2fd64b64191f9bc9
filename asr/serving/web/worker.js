// Keeps the page awake while the network works: onnxruntime-web and the recognition run here. The first message tells
// what was loaded; after that each task, which comes with samples at 16 kHz, has one answer, in their order.

import * as ort from "../runtime/ort.wasm.bundle.min.mjs";
import { readArrays, tokenModel } from "./ngram.js";
import { isWhole, posteriors, recognise } from "./recognise.js";

ort.env.wasm.numThreads = 1; // more need headers that most hosts of static pages do not send
ort.env.logLevel = "error";
let model, session;
let last = answer(async () => {
  const description = await (await fetch(file("model.json"))).json();
  model = { ...description, ...await ngrams(description) };
  session = await ort.InferenceSession.create(file("model.onnx").href);
  return description;
});
onmessage = ({ data: { task, samples } }) => {
  last = last.then(() => answer(() => work[task](samples)));
};

function file(name) {
  return new URL(`../model/${name}`, import.meta.url);
}

// The n-gram of the training, as an automaton, and the language model of the beam search, where there are some.
async function ngrams({ ngrams, labels, lm_weight, insertion_penalty }) {
  const read = async (name) => readArrays(await (await fetch(file(name))).arrayBuffer());
  const found = Object.fromEntries(await Promise.all(ngrams.map(async (name) => [name, await read(name)])));
  const lm = found["lm.safetensors"];
  return { automaton: found["ngram.safetensors"], lm: lm && tokenModel(lm, labels.length, lm_weight, insertion_penalty) };
}

const work = {
  phones: async (samples) => {
    const start = performance.now(), phones = await recognise(samples, model, run);
    return { phones, seconds: (performance.now() - start) / 1000, isWhole: isWhole(samples) };
  },
  posteriors: (samples) => posteriors(samples, model, run),
};

async function answer(work) {
  try {
    postMessage({ result: await work() });
  } catch (error) {
    postMessage({ fault: error.message });
  }
}

async function run(samples) {
  const { log_probs } = await session.run({ waveform: new ort.Tensor("float32", samples, [samples.length]) });
  const [frames, , classes] = log_probs.dims;
  return { values: log_probs.data, frames, classes };
}
