// Hands on the microphone's samples as 16-bit integers, a tenth of a second at a time.

class Microphone extends AudioWorkletProcessor {
  #samples = new Int16Array(Math.round(sampleRate / 10));
  #count = 0;

  constructor() {
    super();
    this.isOn = true;
    this.port.onmessage = () => {
      this.#flush();
      this.isOn = false;
      this.port.postMessage(null);
    };
  }

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let i = 0; i < length; i++) {
      const mean = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
      this.#samples[this.#count++] = Math.max(-32768, Math.min(32767, Math.round(32768 * mean)));
      if (this.#count === this.#samples.length) this.#flush();
    }
    return this.isOn;
  }

  #flush() {
    const samples = this.#samples.slice(0, this.#count);
    this.#count = 0;
    if (samples.length) this.port.postMessage(samples, [samples.buffer]);
  }
}

registerProcessor("microphone", Microphone);
