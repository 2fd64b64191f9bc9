// Speech as it comes: the microphone goes through a stream, and what is known of it is shown at once.

import * as backend from "./backend.js";

const element = (id) => document.getElementById(id);

export class Live {
  #words = []; // of the phrases that have ended
  #phones = [];

  // `options` has ipa; `onFault` gets what goes wrong with the stream.
  constructor(rate, options, onFault) {
    this.isOpen = true;
    this.isFaulty = false;
    this.ended = new Promise((resolve) => {
      const end = (fault) => {
        this.isOpen = false;
        this.isFaulty = Boolean(fault);
        if (fault) onFault(fault);
        resolve();
      };
      this.stream = backend.stream(rate, options, (answer) => this.#show(answer), end);
    });
    element("finals").replaceChildren();
    this.#showPartial("", []);
    element("live").hidden = false;
  }

  send(samples) {
    if (this.isOpen) this.stream.send(samples);
  }

  // End the stream, and return what was said in so many seconds; null if it broke off before.
  async finish(duration) {
    if (this.isOpen) this.stream.end();
    await this.ended;
    element("live").hidden = true;
    if (this.isFaulty) return null;
    return { duration, phones: this.#phones, ...(this.#words.length ? { words: this.#words } : {}) };
  }

  #show({ partial, text, result, phones }) {
    if (partial !== undefined) {
      this.#showPartial(partial, phones);
      return;
    }
    this.#phones.push(...phones);
    this.#words.push(...result.map(({ word, start, end, conf }) => ({ label: word, start, end, confidence: conf })));
    if (text) element("finals").append(Object.assign(document.createElement("span"), { textContent: `${text} ` }));
    this.#showPartial("", []);
  }

  #showPartial(text, phones) {
    if (element("partial").textContent !== text) element("partial").textContent = text;
    element("phones").replaceChildren(
      ...phones.map(({ label, start, confidence }) => {
        const phone = document.createElement("span");
        phone.textContent = label;
        phone.title = `${label}: ${start.toFixed(2)} s`;
        phone.style.setProperty("--sure", confidence ?? 1);
        return phone;
      }),
    );
  }
}
