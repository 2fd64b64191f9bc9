// Speech as it comes: the phrase so far is recognised over and over, and pauses end it, as asr.serving.listener does.

const PAUSE = 0.8; // seconds without a phone that end a phrase; it is cut in the middle of them
const LONGEST = 20; // seconds of a phrase; it is ended without a pause then
const BEFORE = 0.5; // seconds that are kept of the silence before a phrase
const FRESH = 0.3; // seconds of new sound that are worth another partial result

export class Phrases {
  #parts = []; // 16-bit samples that are not in a final result
  #start = 0; // seconds, of the first of them
  #heard = 0; // seconds of them that are in the last partial result
  #isBusy = false;
  #hasEnded = false;

  // `hear` turns parts into { duration, phones }, whose times count from the first part.
  constructor(hear, rate, onAnswer, onEnd) {
    Object.assign(this, { hear, rate, onAnswer, onEnd });
  }

  send(samples) {
    this.#parts.push(samples);
    this.#work();
  }

  end() {
    this.#hasEnded = true;
    this.#work();
  }

  get #duration() { return this.#parts.reduce((sum, part) => sum + part.length, 0) / this.rate; }

  async #work() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      while (this.#hasEnded || this.#duration - this.#heard >= FRESH) {
        const isLast = this.#hasEnded; // all samples are here
        await this.#hear(isLast);
        if (isLast) {
          this.onEnd(null);
          return;
        }
      }
      this.#isBusy = false;
    } catch (error) {
      this.onEnd(error.message); // and this stays busy: nothing more is heard
    }
  }

  async #hear(isLast) {
    const { duration, phones } = await this.hear([...this.#parts]);
    const start = this.#start, last = phones.at(-1)?.end;
    const timed = phones.map((phone) => ({ ...phone, start: start + phone.start, end: start + phone.end }));
    this.#heard = duration;
    if (isLast || duration >= LONGEST) this.#finish(timed, duration);
    else if (last === undefined) this.#cut(duration - BEFORE);
    else if (duration - last >= PAUSE) this.#finish(timed, (last + duration) / 2);
    else this.onAnswer({ partial: "", phones: timed });
  }

  #finish(phones, end) {
    if (phones.length) this.onAnswer({ text: phones.map(({ label }) => label).join(" "), result: [], phones });
    this.#cut(end);
  }

  // Forget the first seconds.
  #cut(seconds) {
    let rest = Math.max(0, Math.round(seconds * this.rate));
    this.#start += rest / this.rate;
    this.#heard = Math.max(0, this.#heard - rest / this.rate);
    while (rest > 0 && rest >= this.#parts[0].length) rest -= this.#parts.shift().length;
    if (rest > 0) this.#parts[0] = this.#parts[0].subarray(rest);
  }
}
