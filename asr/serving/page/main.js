// The page: files and the microphone in, words and phones in time under the picture of the sound.

import * as backend from "./backend.js";
import { draw } from "./draw.js";
import { RATE, decoded, mono, wavOf } from "./sound.js";
import { loudestOf } from "./spectrum.js";

const SECOND = 320; // pixels that a second is wide
const TIERS = ["words", "phones"];
const state = {
  file: null, // the recording as it was chosen or made
  sound: null, // the same, decoded: an AudioBuffer; null if this browser cannot
  samples: null, // its channels' mean
  peak: 0, // of the samples
  loudest: 0, // dB of their loudest frequency
  options: null, // with which this result was asked for
  found: null, // the answer
};
const player = { context: null, source: null, begin: 0, start: 0, end: 0, button: null };
const recorder = { machine: null, parts: [] };
const element = (id) => document.getElementById(id);

// ---- Recordings ----

async function recognise() {
  const { file } = state;
  stop();
  report("Working …");
  element("start").disabled = true;
  try {
    const options = { text: element("text").value.trim(), ipa: element("alphabet").value === "ipa" };
    backend.unlock(element("token").value);
    const found = await backend.recognise(file, options), sound = await decoded(file);
    if (file !== state.file) return; // another one was chosen meanwhile
    Object.assign(state, { options, found, sound });
    state.samples = sound && mono(sound);
    state.peak = state.samples && state.samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-5);
    state.loudest = state.samples && loudestOf(state.samples);
    show();
    report(`Done: ${state.found.phones.length} phones in ${state.found.duration.toFixed(2)} seconds.`);
  } catch (error) {
    if (error instanceof backend.Locked) element("locked").hidden = false;
    report("", error.message);
  }
  element("start").disabled = false;
}

function report(status, fault = "") {
  element("status").textContent = status;
  element("fault").textContent = fault;
}

function take(file, isChosen = false) {
  state.file = file;
  if (!isChosen) element("file").value = ""; // it would go on naming the file before
  element("other").textContent = isChosen ? "" : file.name;
  recognise();
}

async function download(button) {
  try {
    const text = await backend.write(state.file, state.options, button.dataset.format);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text]));
    link.download = state.file.name.replace(/\.[^.]*$/, "") + button.dataset.suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    report(`Saved ${link.download}.`);
  } catch (error) {
    report("", error.message);
  }
}

// ---- Sound ----

async function record() {
  if (recorder.machine) {
    recorder.machine.stop();
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    recorder.machine = new MediaRecorder(stream);
    recorder.parts = [];
    recorder.machine.ondataavailable = (event) => recorder.parts.push(event.data);
    recorder.machine.onstop = () => finishRecording(stream);
    recorder.machine.start();
    element("record").textContent = "Stop recording";
    report("Recording …");
  } catch (error) {
    report("", `No microphone: ${error.message}`);
  }
}

async function finishRecording(stream) {
  stream.getTracks().forEach((track) => track.stop());
  recorder.machine = null;
  element("record").textContent = "Record";
  const sound = await decoded(new Blob(recorder.parts));
  if (!sound || !sound.length) report("", "Nothing was recorded.");
  else take(new File([wavOf(mono(sound))], "recording.wav", { type: "audio/wav" }));
}

function play(start, end, button = null) {
  stop();
  if (!state.sound) return;
  player.context ??= new AudioContext();
  player.context.resume();
  player.source = new AudioBufferSourceNode(player.context, { buffer: state.sound });
  player.source.connect(player.context.destination);
  player.source.onended = stop;
  player.source.start(0, start, end - start);
  Object.assign(player, { begin: player.context.currentTime, start, end, button });
  button?.classList.add("playing");
  element("play").textContent = "Stop";
  requestAnimationFrame(moveCursor);
}

function stop() {
  if (player.source) {
    player.source.onended = null;
    player.source.stop();
  }
  player.button?.classList.remove("playing");
  Object.assign(player, { source: null, button: null });
  element("play").textContent = "Play";
  element("cursor").hidden = true;
}

function moveCursor() {
  if (!player.source) return;
  const now = player.start + player.context.currentTime - player.begin;
  element("cursor").hidden = false;
  element("cursor").style.left = `${SECOND * Math.min(now, player.end)}px`;
  requestAnimationFrame(moveCursor);
}

// ---- The result ----

function show() {
  const { found } = state;
  const units = found.words?.length ? found.words : found.phones;
  element("said").textContent = units.map((each) => each.label).join(" ") || "Nothing was heard.";
  element("result").hidden = false;
  element("play").disabled = !state.sound;
  element("strip").style.width = `${Math.ceil(SECOND * found.duration)}px`;
  element("tiers").replaceChildren(...TIERS.filter((name) => found[name]?.length).map((name) => tier(name, found[name])));
  element("timeline").scrollLeft = 0;
  redraw();
}

function tier(name, segments) {
  const row = document.createElement("div");
  row.className = "tier";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", name);
  const said = segments.filter((segment) => segment.end > segment.start); // words that nobody says have no length
  row.append(...said.map(segmentButton));
  row.firstChild?.setAttribute("tabindex", "0");
  row.addEventListener("keydown", (event) => move(event, row));
  return row;
}

function segmentButton(segment) {
  const button = document.createElement("button");
  const sure = segment.confidence ?? 1;
  button.type = "button";
  button.tabIndex = -1; // arrow keys lead here
  button.textContent = segment.label;
  const times = `${segment.start.toFixed(2)} to ${segment.end.toFixed(2)} s`;
  button.title = `${segment.label}: ${times}, confidence ${sure.toFixed(2)}`;
  button.setAttribute("aria-label", button.title);
  button.style.left = `${SECOND * segment.start}px`;
  button.style.width = `${SECOND * (segment.end - segment.start)}px`;
  button.style.setProperty("--sure", sure);
  button.addEventListener("click", () => play(segment.start, segment.end, button));
  return button;
}

function move(event, row) {
  const buttons = [...row.children];
  const here = buttons.indexOf(document.activeElement);
  const there = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (!buttons[there]) return;
  event.preventDefault();
  buttons[here].tabIndex = -1;
  buttons[there].tabIndex = 0;
  buttons[there].focus();
}

function redraw() {
  const timeline = element("timeline");
  const width = Math.min(timeline.clientWidth, element("strip").offsetWidth);
  if (!state.found || !width) return;
  element("picture").setAttribute("aria-label", `Waveform and spectrogram of ${state.found.duration.toFixed(2)} seconds`);
  const { samples, peak, loudest } = state;
  const sound = samples && { samples, rate: RATE, peak, loudest };
  draw(element("picture"), sound, { first: timeline.scrollLeft / SECOND, scale: SECOND, width });
}

// ---- What the reader does ----

element("form").addEventListener("submit", (event) => { event.preventDefault(); recognise(); });
element("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0], true));
element("record").addEventListener("click", record);
element("play").addEventListener("click", () => (player.source ? stop() : play(0, state.sound.duration)));
element("downloads").addEventListener("click", (event) => event.target.dataset.format && download(event.target));
element("text").addEventListener("input", () => {
  element("start").textContent = element("text").value.trim() ? "Align" : "Recognise";
});
element("timeline").addEventListener("scroll", () => requestAnimationFrame(redraw));
element("picture").addEventListener("click", (event) => {
  if (state.sound) play((element("timeline").scrollLeft + event.offsetX) / SECOND, state.sound.duration);
});
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("keydown", (event) => event.key === "Escape" && stop());
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
