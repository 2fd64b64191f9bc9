// One utterance in time: sound, spectrogram, phones and posteriors under one playhead.

const PIXELS_PER_SECOND = 240; // at least, so that a phone of 60 ms has room for its label
const ROW_HEIGHT = 12; // pixels of a label's row in the posteriorgram

/** {label, start, end, confidence or null} of packed segments: label's number, ms, ms, thousandths or null. */
function segmentsOf(packed, labels) {
  const segments = [];
  for (let i = 0; i < packed.length; i += 4) {
    const [label, start, end, confidence] = packed.slice(i, i + 4);
    segments.push({
      label: labels[label],
      start: start / 1000,
      end: end / 1000,
      confidence: confidence === null ? null : confidence / 1000,
    });
  }
  return segments;
}

/** The player and the lanes of an utterance, a list of elements; empty where there is nothing to play or look at. */
function timeline(utterance, labels, media) {
  const has = (key) => utterance[key] !== undefined;
  if (!has("audio") && !has("spectrogram") && !has("posteriors")) return [muted("Sound and pictures are kept for some utterances only: those marked ♪.")];
  const source = (key, type) => `data:${type};base64,${media[utterance[key]]}`;
  const audio = has("audio") ? el("audio", { controls: true, preload: "auto", "aria-label": utterance.id, src: source("audio", "audio/ogg") }) : null;
  const lanes = el("div", { class: "lanes" });
  const box = el("div", { class: "timeline", tabindex: 0, role: "group", "aria-label": "Utterance in time" }, lanes);
  const player = audio ? new Player(audio, box, utterance.duration) : null;
  lanes.style.setProperty("--width", `${Math.round(utterance.duration * PIXELS_PER_SECOND)}px`);

  function lane(name, kind, ...children) {
    const node = el("div", { class: `lane ${kind}` }, ...children);
    const label = name instanceof Node ? name : el("div", { class: "lane-name middle" }, name);
    lanes.append(label, node);
    if (player) player.add(node);
    return node;
  }
  const picture = (key, text) => el("img", { src: source(key, "image/png"), alt: text, draggable: "false" });
  const phones = (name, segments) => {
    if (segments.length) lane(name, "phones", phoneButtons(segments, utterance.duration, player, name));
  };

  if (has("spectrogram")) lane("0–8 kHz", "spectrogram", picture("spectrogram", "Spectrogram, mel scale"));
  phones("said", segmentsOf(utterance.reference, labels));
  phones("heard", segmentsOf(utterance.hypothesis, labels));
  if (has("posteriors")) {
    const tokens = utterance.posterior_tokens ?? [];
    const names = el("div", { class: "lane-name" }, el("div", { class: "rows", style: "position: relative; height: 100%" }, tokens.map((token, i) => {
      const name = el("span", {}, token);
      name.style.top = `${(100 * (i + 0.5)) / tokens.length}%`;
      return name;
    })));
    const node = lane(names, "posteriors", picture("posteriors", "Posterior of each label in time"));
    node.style.height = `${Math.max(120, tokens.length * ROW_HEIGHT)}px`;
  }
  lane("s", "seconds", ticks(0, utterance.duration, utterance.duration * 2).filter((second) => second < utterance.duration - 0.1).map((second) => {
    const mark = el("span", {}, plain(second));
    mark.style.left = `${(100 * second) / utterance.duration}%`;
    return mark;
  }));
  const hint = muted("A click on a phone plays it. The warmer a phone heard, the less sure the recogniser was.");
  return audio ? [audio, box, hint] : [box];
}

/** A button for each phone, reached with Tab and then the arrow keys; it plays the phone. */
function phoneButtons(segments, length, player, name) {
  const buttons = segments.map(({ label, start, end, confidence }, i) => {
    const sure = confidence === null ? "" : `, confidence ${fixed(confidence, 2)}`;
    const text = `${label}, ${fixed(start, 2)}–${fixed(end, 2)} s${sure}`;
    const node = button(label, (event) => {
      event.stopPropagation();
      player?.play(start, end, node);
    }, { class: "phone", "aria-label": `${name}: ${text}`, tabindex: i ? -1 : 0, ...tipped(text) });
    if (confidence !== null) node.style.setProperty("--doubt", `${70 * (1 - confidence)}%`);
    node.style.left = `${(100 * start) / length}%`;
    node.style.width = `${(100 * (end - start)) / length}%`;
    node.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const other = buttons[i + step];
      if (!other) return;
      event.preventDefault();
      node.tabIndex = -1;
      other.tabIndex = 0;
      other.focus();
    });
    return node;
  });
  return buttons;
}

/** Keeps a playhead in each lane at the sound's place, and plays stretches of it. */
class Player {
  constructor(audio, box, length) {
    Object.assign(this, { audio, box, length, heads: [], end: null, phone: null });
    const follow = () => this.follow();
    for (const name of ["play", "seeked", "timeupdate"]) audio.addEventListener(name, follow);
    audio.addEventListener("pause", () => this.release());
  }

  add(lane) {
    const head = el("div", { class: "playhead" });
    head.style.left = "0";
    lane.append(head);
    this.heads.push(head);
    lane.addEventListener("click", (event) => {
      const { left, width } = lane.getBoundingClientRect();
      this.audio.currentTime = ((event.clientX - left) / width) * this.length;
    });
  }

  play(start, end, phone) {
    this.release();
    this.audio.currentTime = start;
    this.end = end;
    this.phone = phone;
    phone.classList.add("playing");
    // A page may be forbidden to play before it was clicked, and another phone may cut this one short.
    this.audio.play().catch(() => this.release());
  }

  release() {
    this.phone?.classList.remove("playing");
    this.phone = null;
    this.end = null;
  }

  follow() {
    const { audio, box } = this;
    if (this.end !== null && audio.currentTime >= this.end && !audio.seeking) audio.pause();
    for (const head of this.heads) head.style.left = `${(100 * audio.currentTime) / this.length}%`;
    if (audio.paused || !box.isConnected) {
      if (!box.isConnected) audio.pause();
      return;
    }
    const lane = this.heads[0].parentElement;
    const place = (audio.currentTime / this.length) * lane.clientWidth;
    const seen = box.clientWidth - lane.offsetLeft;
    if (place < box.scrollLeft || place > box.scrollLeft + seen) box.scrollLeft = place - 0.1 * seen;
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.follow();
      });
    }
  }
}
