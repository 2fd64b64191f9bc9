// The page: recordings come in as files or from the microphone, and each has its own view.

import * as backend from "./backend.js";
import { Live } from "./live.js";
import { openMicrophone } from "./microphone.js";
import { player } from "./player.js";
import { Recording } from "./recording.js";
import { wavOf } from "./wav.js";

const element = (id) => document.getElementById(id);
const names = { record: "Record", listen: "Listen live" }; // of the microphone's buttons
let session = null; // of the microphone, while it is open
let locked = new Set(); // recordings that wait for the token

function report(status, fault = "") {
  element("status").textContent = status;
  element("fault").textContent = fault;
}

function options() {
  return {
    text: element("text").value.trim(),
    ipa: element("alphabet").value === "ipa",
    isLearner: element("learner").checked,
  };
}

// ---- Recordings ----

function add(file, found = null) {
  const recording = new Recording(file, options(), lock);
  element("recordings").prepend(recording.element);
  recording.start(found);
}

function lock(recording) {
  element("locked").hidden = false;
  if (recording) locked.add(recording);
}

function unlock() {
  backend.unlock(element("token").value);
  const waiting = locked;
  locked = new Set();
  for (const recording of waiting) recording.start();
}

// ---- The microphone ----

async function toggle(kind) {
  if (session) {
    await finish();
    return;
  }
  const parts = [];
  let live = null;
  session = { kind, parts };
  try {
    const microphone = await openMicrophone((samples) => {
      parts.push(samples);
      showLevel(samples);
      live?.send(samples.slice());
    });
    if (kind === "listen") live = new Live(microphone.rate, options(), (fault) => report("", fault));
    Object.assign(session, { microphone, live });
    element(kind).textContent = "Stop";
    element(kind === "record" ? "listen" : "record").disabled = true;
    element("meter").hidden = false;
    report(kind === "record" ? "Recording …" : "Listening …");
  } catch (error) {
    session = null;
    report("", `No microphone: ${error.message}`);
  }
}

async function finish() {
  const { kind, parts, microphone, live } = session;
  if (!microphone) return; // it is still being opened
  element(kind).disabled = true;
  await microphone.close();
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const found = live && (await live.finish(length / microphone.rate));
  session = null;
  for (const [id, name] of Object.entries(names)) Object.assign(element(id), { textContent: name, disabled: false });
  element("meter").hidden = true;
  report("", length ? element("fault").textContent : "Nothing was recorded.");
  if (length) add(new File([wavOf(parts, microphone.rate)], kind === "record" ? "recording.wav" : "live.wav"), found);
}

function showLevel(samples) {
  const meter = element("meter"), pen = meter.getContext("2d");
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  const share = 1 + Math.log10(peak / 32768) / 2.5; // 50 dB
  pen.clearRect(0, 0, meter.width, meter.height);
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  pen.fillRect(0, 0, meter.width * Math.max(0, share), meter.height);
}

// ---- What the reader does ----

element("form").addEventListener("submit", (event) => event.preventDefault());
element("file").addEventListener("change", ({ target }) => {
  [...target.files].forEach((file) => add(file));
  target.value = ""; // the same file may be chosen again
});
element("record").addEventListener("click", () => toggle("record"));
element("listen").addEventListener("click", () => toggle("listen"));
element("token").addEventListener("change", unlock);
addEventListener("keydown", ({ key }) => key === "Escape" && player.stop());
addEventListener("beforeunload", (event) => { // what is edited or being recorded would be lost
  if (session || document.querySelector(".undo:enabled")) event.preventDefault();
});
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  [...event.dataTransfer.files].forEach((file) => add(file));
});
