// In the audio thread: hands over what the microphone hears, unchanged, in blocks of 43 ms at 48 kHz.

const BLOCK = 2048; // samples; each message costs the page's thread more than it carries

class Tap extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK);
  #filled = 0;
  #open = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#hand(this.#filled); // the rest
      this.port.postMessage(null);
      this.#open = false;
    };
  }

  process([channels]) {
    if (this.#open && channels.length) {
      for (let at = 0; at < channels[0].length; at += 1) {
        let sum = 0;
        for (const channel of channels) sum += channel[at];
        this.#block[this.#filled++] = sum / channels.length;
        if (this.#filled === BLOCK) this.#hand(BLOCK);
      }
    }
    return this.#open;
  }

  #hand(count) {
    this.port.postMessage(this.#block.slice(0, count));
    this.#filled = 0;
  }
}

registerProcessor("tap", Tap);
