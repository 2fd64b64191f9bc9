// A recording as sound: decoded, then kept, drawn and written in a worker.

export const RATE = 16000; // Hz, of the sound as it is drawn and played
const PIECE = 1 << 18; // samples that are converted before the page may answer again

export class Sound {
  #worker = new Worker(new URL("./sound-worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #count = 0;

  // Return the sound of a file. Its duration is 0 if this browser cannot decode it; the recogniser may.
  static async open(file) {
    const sound = new Sound(), samples = await decoded(file);
    sound.duration = samples.length / RATE;
    await sound.#ask({ task: "load", samples, rate: RATE }, [samples.buffer]);
    return sound;
  }

  constructor() {
    this.duration = 0;
    this.#worker.onmessage = ({ data: { id, ...answer } }) => {
      this.#waiting.get(id)(answer);
      this.#waiting.delete(id);
    };
  }

  #ask(message, moved = []) {
    const id = this.#count++;
    this.#worker.postMessage({ id, ...message }, moved);
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  async setPosteriors(posteriors) {
    await this.#ask({ task: "setPosteriors", posteriors }, [posteriors.values.buffer]);
  }

  async tile(layer, tile) { return (await this.#ask({ task: "tile", layer, tile })).bitmap; }

  async read(start, end) { return (await this.#ask({ task: "read", start, end })).samples; }

  async wav() { return (await this.#ask({ task: "wav" })).blob; }

  close() { this.#worker.terminate(); }
}

// Return the mean of the channels as int16.
async function decoded(file) {
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    return new Int16Array(0);
  }
  const { length, numberOfChannels: count } = buffer, found = new Int16Array(length);
  const piece = new Float32Array(Math.min(PIECE, length)), sum = new Float32Array(piece.length);
  for (let start = 0; start < length; start += PIECE) {
    const size = Math.min(PIECE, length - start);
    sum.fill(0);
    for (let channel = 0; channel < count; channel++) {
      buffer.copyFromChannel(piece, channel, start);
      for (let i = 0; i < size; i++) sum[i] += piece[i];
    }
    for (let i = 0; i < size; i++) {
      found[start + i] = Math.max(-32768, Math.min(32767, Math.round((32768 * sum[i]) / count)));
    }
    await new Promise((resolve) => setTimeout(resolve));
  }
  return found;
}
