// Plays stretches of recordings, one at a time, piece by piece.

import { RATE } from "./sound.js";

const PIECE = 10; // seconds that are read at once
const DELAY = 0.02; // seconds from a piece's arrival to its sound

class Player {
  #context = null;
  #run = null; // what is played: sound, start, end, onEnd; begin, on the context's clock; and its sources

  get playing() { return this.#run; }

  // Play a sound from start to end (seconds); `onEnd` is called when it ends, or something else is played.
  async play(sound, start, end, onEnd) {
    this.stop();
    this.#context ??= new AudioContext();
    this.#context.resume();
    const run = { sound, start, end, onEnd, begin: null, sources: [] };
    this.#run = run;
    for (let at = start; at < end; at += PIECE) {
      const samples = await sound.read(at, Math.min(at + PIECE, end));
      if (this.#run !== run) return;
      this.#schedule(run, at, samples);
      await this.#until(run, at + PIECE / 2);
      if (this.#run !== run) return;
    }
    if (!run.sources.length || run.sources.at(-1).isOver) this.stop();
    else run.sources.at(-1).source.onended = () => this.#run === run && this.stop();
  }

  #schedule(run, at, samples) {
    if (!samples.length) return;
    run.begin ??= this.#context.currentTime + DELAY;
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE });
    buffer.copyToChannel(samples, 0);
    const entry = { source: new AudioBufferSourceNode(this.#context, { buffer }), isOver: false };
    entry.source.onended = () => { entry.isOver = true; };
    entry.source.connect(this.#context.destination);
    entry.source.start(run.begin + at - run.start);
    run.sources.push(entry);
  }

  // Wait until the place is being played; not for what is short.
  async #until(run, place) {
    while (this.#run === run && place < run.end && this.now < place) {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  // The place in the recording that is heard now, in seconds; null in silence.
  get now() {
    if (!this.#run) return null;
    const { begin, start, end } = this.#run;
    return begin === null ? start : Math.max(start, Math.min(end, start + this.#context.currentTime - begin));
  }

  stop() {
    const run = this.#run;
    if (!run) return;
    this.#run = null;
    for (const { source } of run.sources) {
      source.onended = null;
      source.stop();
    }
    run.onEnd();
  }
}

export const player = new Player();
