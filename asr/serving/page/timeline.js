// The view of one recording: its picture, drawn where it is visible, and rows of labels in time. It scrolls and zooms.

import { ROW, SPECTRUM, WAVE } from "./picture.js";
import { player } from "./player.js";
import { Tier } from "./tiers.js";

const SECOND = 320; // pixels that a second is wide before zooming
const CLOSEST = 2560;
const RULER = 18; // height in pixels
const TILE = 512; // pixels of the screen
const MOST_TILES = 64, MOST_ASKED = 4; // that are kept, and that are drawn at a time
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600]; // s, of the ruler
const LABEL = 64; // pixels that a label of the ruler needs

export class Timeline {
  #tiles = new Map(); // ImageBitmaps by layer, scale, number and ink, those last used last; null while one is drawn
  #asked = 0;
  #isDue = false; // whether it will be drawn soon
  #closing = new AbortController();
  #observer = new ResizeObserver(() => this.#soon());

  // `root` has the elements of the template; `actions` are play(start, end, button), select(tier, index) and
  // move(from, to, isDone).
  constructor(root, name, actions) {
    this.element = root.querySelector(".timeline");
    this.name = name;
    this.scale = SECOND;
    this.duration = 0;
    this.sound = this.labels = null;
    this.actions = actions;
    this.strip = root.querySelector(".strip");
    this.picture = root.querySelector(".picture");
    this.heat = root.querySelector(".heat");
    this.rows = root.querySelector(".tiers");
    this.cursor = root.querySelector(".cursor");
    this.tiers = {};
    this.element.addEventListener("scroll", () => this.#soon());
    this.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.picture.addEventListener("click", (event) => actions.play(this.#timeOf(event), this.duration));
    this.rows.addEventListener("pointerdown", (event) => this.#drag(event));
    this.rows.addEventListener("pointermove", (event) => this.#hint(event));
    this.#observer.observe(this.element);
    const { signal } = this.#closing;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#soon(), { signal });
  }

  get first() { return this.element.scrollLeft / this.scale; } // seconds at the left edge

  get width() { return this.element.clientWidth; }

  // Show a recording of so many seconds. The sound may come later.
  setDuration(duration) {
    this.duration = duration;
    this.#resize();
  }

  setSound(sound) {
    this.sound = sound;
    this.draw();
  }

  // Show rows of labels: segments by the names of tiers; those without any have no row.
  setTiers(tiers) {
    const names = Object.keys(tiers).filter((name) => tiers[name].length);
    if (names.join() !== Object.keys(this.tiers).join()) {
      this.tiers = Object.fromEntries(names.map((name) => [name, new Tier(name, this)]));
      this.rows.replaceChildren(...Object.values(this.tiers).map((tier) => tier.element));
    }
    for (const name of names) this.tiers[name].set(tiers[name]);
    this.draw();
  }

  // Show the heat map with these labels, which the sound has the values of; null hides it.
  setPosteriors(labels) {
    this.labels = labels;
    this.heat.hidden = !labels;
    this.draw();
  }

  close() {
    this.#closing.abort();
    this.#observer.disconnect();
  }

  // Zoom by a factor about a time, or about the middle of what is seen.
  zoom(factor, centre = this.first + this.width / this.scale / 2) {
    const offset = (centre - this.first) * this.scale;
    const power = Math.round(Math.log2((this.scale * factor) / SECOND)); // other scales would need other tiles
    this.#setScale(Math.max(Math.min(this.fitting, SECOND), Math.min(CLOSEST, SECOND * 2 ** power)));
    this.element.scrollLeft = centre * this.scale - offset;
    this.draw();
  }

  get fitting() { return this.width / Math.max(this.duration, 0.1); } // the scale that shows everything

  whole() {
    this.#setScale(Math.min(CLOSEST, this.fitting));
    this.draw();
  }

  // Scroll so that a stretch is seen.
  reveal(start, end) {
    const margin = 0.1 * this.width, left = start * this.scale, right = end * this.scale;
    const { scrollLeft } = this.element;
    if (left < scrollLeft) this.element.scrollLeft = left - margin;
    else if (right > scrollLeft + this.width) this.element.scrollLeft = Math.min(left, right - this.width) + margin;
    this.draw();
  }

  #setScale(scale) {
    if (scale === this.scale) return;
    this.scale = scale;
    this.#resize();
  }

  #resize() {
    this.strip.style.width = `${Math.max(1, Math.ceil(this.scale * this.duration))}px`;
    this.draw();
  }

  #soon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => { this.#isDue = false; this.draw(); });
  }

  draw() {
    const width = Math.min(this.width, this.strip.offsetWidth);
    if (!width || !this.duration) return;
    const style = getComputedStyle(document.documentElement), seconds = `${this.duration.toFixed(2)} seconds`;
    const ink = style.getPropertyValue("--picture").split(",").map(Number), muted = style.getPropertyValue("--muted");
    const pen = prepare(this.picture, width, WAVE + SPECTRUM + RULER);
    this.picture.setAttribute("aria-label", `Waveform and spectrogram of ${seconds} of ${this.name}`);
    if (this.sound) this.#drawLayer("sound", pen, width, ink);
    this.#drawRuler(pen, width, muted);
    if (this.labels) {
      const heat = prepare(this.heat, width, ROW * this.labels.length);
      this.heat.setAttribute("aria-label", `Posteriors of ${this.labels.length} labels in ${seconds} of ${this.name}`);
      this.#drawLayer("posteriors", heat, width, ink);
      this.#drawNames(heat, style);
    }
    for (const tier of Object.values(this.tiers)) tier.draw(this.first, this.first + width / this.scale);
    this.element.setAttribute("aria-busy", this.#asked > 0);
    this.#moveCursor();
  }

  #drawLayer(layer, pen, width, ink) {
    const ratio = devicePixelRatio || 1, scale = this.scale * ratio, left = Math.round(this.element.scrollLeft * ratio);
    for (let number = Math.floor(left / TILE); number * TILE < left + width * ratio; number++) {
      const key = `${layer} ${scale} ${number} ${ink}`, tile = this.#tiles.get(key);
      if (tile === undefined) this.#ask(layer, key, { number, width: TILE, scale, ratio, ink });
      if (!tile) continue;
      this.#tiles.delete(key);
      this.#tiles.set(key, tile);
      pen.drawImage(tile, number * TILE - left, 0);
    }
  }

  async #ask(layer, key, tile) {
    if (this.#asked >= MOST_ASKED) return; // what comes back draws again, and asks for what is seen then
    this.#asked++;
    this.#tiles.set(key, null);
    const bitmap = await this.sound.tile(layer, tile);
    this.#asked--;
    if (this.#tiles.get(key) === null) this.#tiles.set(key, bitmap);
    for (const [old, each] of this.#tiles) {
      if (this.#tiles.size <= MOST_TILES) break;
      each?.close();
      this.#tiles.delete(old);
    }
    this.#soon();
  }

  #drawRuler(pen, width, ink) {
    const step = STEPS.find((each) => each * this.scale >= LABEL) ?? STEPS.at(-1), ratio = devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = ink;
    pen.font = "12px system-ui, sans-serif";
    for (let mark = Math.floor(this.first / step); mark * step <= this.first + width / this.scale; mark++) {
      const x = (mark * step - this.first) * this.scale;
      pen.fillRect(x, WAVE + SPECTRUM, 1, RULER);
      pen.fillText(clock(mark * step, step), x + 4, WAVE + SPECTRUM + RULER - 5);
    }
  }

  #drawNames(pen, style) {
    const ratio = devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = `${ROW}px system-ui, sans-serif`;
    pen.globalAlpha = 0.8;
    pen.fillStyle = style.getPropertyValue("--ground");
    const width = Math.max(...this.labels.map((label) => pen.measureText(label).width)) + 4;
    pen.fillRect(0, 0, width, ROW * this.labels.length);
    pen.globalAlpha = 1;
    pen.fillStyle = style.getPropertyValue("--ink");
    this.labels.forEach((label, row) => pen.fillText(label, 2, (row + 1) * ROW - 1.5));
  }

  // Follow what is played.
  follow() {
    if (!this.#moveCursor()) return;
    requestAnimationFrame(() => this.follow());
  }

  #moveCursor() {
    const { now, playing } = player, isHere = playing !== null && playing.sound === this.sound;
    this.cursor.hidden = !isHere;
    if (isHere) this.cursor.style.left = `${this.scale * now}px`;
    return isHere;
  }

  #wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 2 : 0.5, this.#timeOf(event));
  }

  #key(event) {
    const factor = { "+": 2, "=": 2, "-": 0.5 }[event.key], place = { Home: 0, End: this.duration }[event.key];
    const isScroll = place !== undefined && event.target === this.element; // labels have these keys to themselves
    if ((!factor && !isScroll) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (factor) this.zoom(factor);
    else this.element.scrollLeft = place * this.scale;
  }

  #timeOf({ clientX }) { return (clientX - this.strip.getBoundingClientRect().left) / this.scale; }

  // The boundary under the pointer, in seconds.
  #boundaryAt(event) {
    const row = event.target.closest(".tier"), tier = row && this.tiers[row.dataset.name];
    return tier?.boundaryNear(this.#timeOf(event), (event.pointerType === "touch" ? 12 : 5) / this.scale);
  }

  #hint(event) { this.rows.classList.toggle("edge", this.#boundaryAt(event) !== undefined); }

  #drag(event) {
    const from = this.#boundaryAt(event);
    if (from === undefined || event.button !== 0) return;
    const offset = from - this.#timeOf(event), moves = new AbortController();
    let to = from;
    const listen = (name, act) => addEventListener(name, act, { signal: moves.signal, capture: true });
    listen("pointermove", (moved) => {
      if (to === from && Math.abs(moved.clientX - event.clientX) < 3) return; // still a click
      to = this.#timeOf(moved) + offset;
      this.actions.move(from, to, false);
    });
    listen("pointercancel", () => { // a finger scrolls
      moves.abort();
      this.actions.move(from, from, false);
    });
    listen("pointerup", () => {
      moves.abort();
      if (to === from) return;
      // The button under the pointer would be clicked.
      const clicks = new AbortController();
      addEventListener("click", (click) => click.stopPropagation(), { signal: clicks.signal, capture: true });
      setTimeout(() => {
        clicks.abort();
        this.actions.move(from, to, true);
      });
    });
  }
}

function prepare(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return canvas.getContext("2d");
}

function clock(seconds, step) {
  if (seconds < 60) return `${seconds.toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60), rest = (seconds - 60 * minutes).toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0);
  return `${minutes}:${Number(rest) < 10 ? "0" : ""}${rest}`;
}
