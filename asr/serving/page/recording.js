// One recording on the page: what was asked and found, its view, changes of its labels, and what can be saved.

import * as backend from "./backend.js";
import { History, moveBoundary, relabel } from "./edits.js";
import { player } from "./player.js";
import { Sound } from "./sound.js";
import { Timeline } from "./timeline.js";

let work = Promise.resolve(); // the last request: those of several recordings wait for each other

export class Recording {
  #history = new History({});
  #selected = null; // { tier, index }
  #opening = null; // resolves when the sound is there
  #asked = 0; // how often something was asked, so that an answer that comes late is known

  // `options` are text, ipa and isLearner; `onLocked` is called when the recogniser wants a token.
  constructor(file, options, onLocked) {
    Object.assign(this, { file, options, onLocked, found: null, sound: null });
    this.element = document.getElementById("recording").content.firstElementChild.cloneNode(true);
    this.timeline = new Timeline(this.element, file.name, {
      play: (start, end, button) => this.#play(start, end, button),
      select: (tier, index) => this.#select(tier, index),
      move: (from, to, isDone) => this.#move(from, to, isDone),
    });
    this.#part(".timeline").setAttribute("aria-label", `Timeline of ${file.name}`);
    this.#part("article").setAttribute("aria-label", file.name);
    this.#part("h2").textContent = file.name;
    this.#part(".close").setAttribute("aria-label", `Close ${file.name}`);
    this.#part(".known").value = options.text;
    this.#part(".again .learner").checked = options.isLearner;
    this.#listen();
  }

  #part(selector) { return this.element.querySelector(selector); }

  #listen() {
    const on = (selector, name, act) => this.#part(selector).addEventListener(name, act);
    on(".close", "click", () => this.close());
    on(".play", "click", () => (this.#isPlaying ? player.stop() : this.#play(0, this.sound.duration)));
    on(".in", "click", () => this.timeline.zoom(2));
    on(".out", "click", () => this.timeline.zoom(0.5));
    on(".whole", "click", () => this.timeline.whole());
    on(".posteriors", "change", () => this.#showPosteriors());
    on(".downloads", "click", ({ target }) => target.dataset.format && this.#save(target.dataset));
    on(".again", "submit", (event) => this.#again(event));
    on(".known", "input", () => this.#nameAgain());
    on(".again .learner", "change", () => this.#nameAgain());
    on(".undo", "click", () => this.#change(() => this.#history.undo()));
    on(".redo", "click", () => this.#change(() => this.#history.redo()));
    on(".editor", "submit", (event) => event.preventDefault());
    on(".label", "change", ({ target }) => this.#relabel(target.value.trim()));
    on(".start", "change", ({ target }) => this.#setTime("start", target.value));
    on(".end", "change", ({ target }) => this.#setTime("end", target.value));
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.#nameAgain();
  }

  // Recognise the recording, unless it is known what is found.
  async start(found = null) {
    this.#report(found ? "" : "Waiting …");
    const asked = ++this.#asked;
    this.#opening ??= this.#open();
    try {
      const answer = found ?? (await this.#ask(asked));
      await this.#opening;
      if (asked !== this.#asked) return;
      this.found = answer;
      this.#show();
      const done = `Done: ${answer.phones.length} phones in ${answer.duration.toFixed(2)} seconds.`;
      const lack = this.sound.duration ? "" : " This browser cannot play or draw the sound.";
      this.#report(done + lack, answer.remark);
    } catch (error) {
      if (asked !== this.#asked) return;
      if (error instanceof backend.Locked) this.onLocked(this);
      this.#report("", error.message);
    }
  }

  async #open() {
    const sound = await Sound.open(this.file);
    if (!this.element.isConnected) {
      sound.close();
      return;
    }
    this.sound = sound;
    this.#part(".play").disabled = this.#part('[data-format="wav"]').disabled = !sound.duration;
    this.timeline.setSound(sound);
    if (!sound.duration) return;
    this.#part(".result").hidden = false;
    this.timeline.setDuration(sound.duration);
  }

  #ask(asked) {
    const answer = work.then(() => {
      if (asked !== this.#asked) throw new Error("it is not wanted any more");
      this.#report("Working …");
      return backend.recognise(this.file, this.options);
    });
    work = answer.catch(() => {});
    return answer;
  }

  close() {
    this.#asked++;
    if (this.#isPlaying) player.stop();
    this.sound?.close();
    this.timeline.close();
    const neighbour = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    (neighbour?.querySelector(".close") ?? document.getElementById("file")).focus();
  }

  #report(status, fault = "") {
    this.#part(".status").textContent = status;
    this.#part(".fault").textContent = fault;
  }

  // ---- The result ----

  #show() {
    const { duration, words, phones, mistakes } = this.found;
    this.#part(".result").hidden = false;
    this.timeline.setDuration(Math.max(duration, this.sound.duration));
    this.#history = new History({ words: words ?? [], phones });
    this.#selected = null;
    this.#part(".confidences").hidden = Boolean(mistakes);
    this.#part(".grades").hidden = this.#part(".scores").hidden = this.#part(".mistakes").hidden = !mistakes;
    if (mistakes) this.#showScores();
    if (this.#part(".posteriors").checked) this.#showPosteriors();
    this.#update();
  }

  #showScores() {
    const { scores, mistakes, words } = this.found;
    this.#part(".scores").replaceChildren(
      ...Object.entries(scores ?? {}).map(([name, value]) => {
        return make("div", {}, make("dt", {}, name), make("dd", {}, value.toFixed(1)));
      }),
    );
    const items = mistakes.map(({ word, text, start, end }) => {
      const button = make("button", { type: "button" }, `${words[word].label}: ${text}, ${start.toFixed(2)} s`);
      button.addEventListener("click", () => {
        this.timeline.reveal(start, end);
        this.#play(start, end, button);
      });
      return make("li", {}, button);
    });
    this.#part(".mistakes").replaceChildren(...(items.length ? items : [make("li", {}, "No mistake was found.")]));
  }

  #update() {
    const { tiers, canUndo, canRedo } = this.#history;
    this.timeline.setTiers(tiers);
    const units = tiers.words.length ? tiers.words : tiers.phones;
    const said = this.#part(".said");
    said.textContent = units.map((each) => each.label).join(" ") || "Nothing was heard.";
    said.tabIndex = said.scrollHeight > said.clientHeight ? 0 : -1; // the keyboard scrolls what has the focus
    this.#part(".undo").disabled = !canUndo;
    this.#part(".redo").disabled = !canRedo;
    this.#fillEditor();
  }

  async #showPosteriors() {
    if (!this.#part(".posteriors").checked) {
      this.timeline.setPosteriors(null);
      return;
    }
    try {
      const found = await backend.posteriors(this.file, this.options), { labels } = found;
      await this.sound.setPosteriors(found);
      if (this.#part(".posteriors").checked) this.timeline.setPosteriors(labels);
    } catch (error) {
      this.#report("", error.message);
    }
  }

  #again(event) {
    event.preventDefault();
    const text = this.#part(".known").value.trim(), isLearner = this.#part(".again .learner").checked;
    this.options = { ...this.options, text, isLearner };
    this.start();
  }

  #nameAgain() {
    const placing = this.#part(".again .learner").checked ? "Score" : "Align";
    this.#part(".again .main").textContent = this.#part(".known").value.trim() ? placing : "Recognise";
  }

  // ---- Sound ----

  get #isPlaying() { return player.playing !== null && player.playing.sound === this.sound; }

  #play(start, end, button = null) {
    if (!this.sound?.duration) return;
    player.play(this.sound, start, Math.min(end, this.sound.duration), () => {
      button?.classList.remove("playing");
      this.#part(".play").textContent = "Play";
      this.timeline.follow();
    });
    button?.classList.add("playing");
    this.#part(".play").textContent = "Stop";
    this.timeline.follow();
  }

  // ---- Edits ----

  get #segment() { return this.#selected && this.#history.tiers[this.#selected.tier][this.#selected.index]; }

  #select(tier, index) {
    this.#selected = { tier, index };
    this.#fillEditor();
  }

  #fillEditor() {
    const segment = this.#segment ?? null;
    for (const name of ["label", "start", "end"]) {
      const input = this.#part(`.editor .${name}`);
      input.disabled = !segment;
      input.value = segment ? (name === "label" ? segment.label : segment[name].toFixed(3)) : "";
    }
    for (const [name, tier] of Object.entries(this.timeline.tiers)) {
      tier.mark(name === this.#selected?.tier ? this.#selected.index : -1);
    }
  }

  #change(act) {
    act();
    this.#update();
  }

  #relabel(label) {
    const { tier, index } = this.#selected;
    this.#change(() => this.#history.do(relabel(this.#history.tiers, tier, index, label)));
  }

  #setTime(side, value) {
    if (value !== "") this.#move(this.#segment[side], Number(value), true);
  }

  // Move a boundary; while it is dragged, the change is shown and not yet kept.
  #move(from, to, isDone) {
    const moved = moveBoundary(this.#history.tiers, from, to, this.timeline.duration);
    if (isDone) this.#change(() => this.#history.do(moved));
    else this.timeline.setTiers(moved);
  }

  #key(event) {
    const isTyping = event.target.matches("input:not([type=checkbox]), textarea");
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !isTyping;
    if (isUndo) this.#change(() => (event.shiftKey ? this.#history.redo() : this.#history.undo()));
    else if (event.key === "F2" && this.#segment) this.#part(".label").select();
    else if (event.key === "Escape" && event.target.closest(".editor") && this.#segment) this.#leaveEditor();
    else return;
    event.preventDefault();
  }

  #leaveEditor() {
    const { tier, index } = this.#selected;
    this.timeline.tiers[tier].focus(index);
  }

  // ---- Files to keep ----

  // What was found, with the changes.
  get labels() {
    const { words, ...found } = this.found, { tiers } = this.#history;
    return { ...found, ...(words ? { words: tiers.words } : {}), phones: tiers.phones };
  }

  async #save({ format, suffix }) {
    try {
      const blob = await this.#written(format), link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = this.file.name.replace(/\.[^.]*$/, "") + suffix;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      this.#report(`Saved ${link.download}.`);
    } catch (error) {
      if (error instanceof backend.Locked) this.onLocked(null);
      this.#report("", error.message);
    }
  }

  async #written(format) {
    if (format === "wav") return this.sound.wav();
    if (format === "json") return new Blob([`${JSON.stringify(this.labels)}\n`], { type: "application/json" });
    return new Blob([await backend.convert(this.labels, this.file.name, format)]);
  }
}

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}
