// The microphone → samples, as it hears them.

import { Problem } from "/web/api.js";
import { wav } from "/web/wav.js";

// What calls need would change how a voice sounds, and with it what tells its emotion.
const AS_IT_IS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const LAST_MS = 500; // that the audio thread has for its last samples; it may have been suspended
const REFUSALS = {
  NotAllowedError: "microphone-denied",
  NotFoundError: "no-microphone",
  NotReadableError: "microphone-busy",
  SecurityError: "microphone-denied",
};

export class Recorder {
  #parts = [];
  #samples = 0;
  #stream;
  #context;
  #tap;

  /**
   * Ask for the microphone and start.
   *
   * @param heard is given each block of samples, a Float32Array.
   * @param lost is called when the microphone goes away.
   */
  async start(heard, lost) {
    if (!window.isSecureContext) throw new Problem("insecure");
    if (!navigator.mediaDevices || !window.AudioWorkletNode) throw new Problem("no-microphone");
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
    } catch (error) {
      throw new Problem(REFUSALS[error.name] ?? "no-microphone", { detail: error.message });
    }
    try {
      this.#context = new AudioContext();
      await this.#context.audioWorklet.addModule("/web/recorder-worklet.js");
      await this.#context.resume();
      this.#tap = new AudioWorkletNode(this.#context, "tap");
    } catch (error) {
      await this.#release();
      throw new Problem("no-microphone", { detail: error.message });
    }
    this.#tap.port.onmessage = ({ data }) => {
      this.#parts.push(data);
      this.#samples += data.length;
      heard(data);
    };
    // An output that stays silent: nodes that lead nowhere are not run.
    this.#context.createMediaStreamSource(this.#stream).connect(this.#tap);
    this.#tap.connect(this.#context.destination);
    this.#stream.getAudioTracks()[0].addEventListener("ended", lost);
  }

  get rate() {
    return this.#context.sampleRate;
  }

  get seconds() {
    return this.#samples / this.rate;
  }

  /** Let go of the microphone; returns the recording as a WAV file. */
  async stop() {
    const heard = this.#tap.port.onmessage;
    await new Promise((resolve) => {
      this.#tap.port.onmessage = (message) => (message.data ? heard(message) : resolve());
      this.#tap.port.postMessage("stop");
      setTimeout(resolve, LAST_MS);
    });
    const { rate } = this;
    await this.#release();
    return wav(this.#parts, rate);
  }

  async #release() {
    this.#stream.getTracks().forEach((track) => track.stop());
    await this.#context?.close();
  }
}
