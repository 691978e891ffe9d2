// Continuous mode: samples → windows → answers, with never more than one request under way.
// One window may wait for its turn; a newer one takes its place, and what is skipped is a gap.

export const REST_S = 0.5; // of a last, shorter window that is still worth sending
const PAUSE_S = 2; // after a failure that says nothing of when to try again

export class Live {
  #rate;
  #size;
  #ask;
  #told;
  #pause;
  #parts = [];
  #filled = 0;
  #start = 0; // of the window being filled, in samples
  #waiting = null;
  #working = null;
  #stopped = false;

  /**
   * @param rate of the samples, in Hz.
   * @param windowS seconds of a window.
   * @param ask gives the answer to a window: (parts, rate) → answer.
   * @param told gets {start_s, end_s} with either `answer`, or `gap` and, where one was, `problem`.
   * @param pause waits that many seconds.
   */
  constructor({ rate, windowS, ask, told, pause }) {
    this.#rate = rate;
    this.#size = Math.round(windowS * rate);
    this.#ask = ask;
    this.#told = told;
    this.#pause = pause;
  }

  /** Take the next samples. */
  push(samples) {
    let rest = samples;
    while (rest.length) {
      const part = rest.subarray(0, this.#size - this.#filled);
      this.#parts.push(part);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled === this.#size) this.#close();
    }
  }

  /** Send what is left, and wait until all is answered. */
  async stop() {
    this.#stopped = true;
    if (this.#filled >= REST_S * this.#rate) this.#close();
    await this.#working;
  }

  #close() {
    if (this.#waiting) this.#told({ ...this.#waiting.span, gap: true });
    const stop = this.#start + this.#filled;
    const span = { start_s: this.#start / this.#rate, end_s: stop / this.#rate };
    this.#waiting = { span, parts: this.#parts };
    [this.#parts, this.#filled, this.#start] = [[], 0, stop];
    this.#working ??= this.#work();
  }

  async #work() {
    try {
      while (this.#waiting) {
        const { span, parts } = this.#waiting;
        this.#waiting = null;
        try {
          this.#told({ ...span, answer: await this.#ask(parts, this.#rate) });
        } catch (problem) {
          this.#told({ ...span, gap: true, problem });
          if (!this.#stopped) await this.#pause(problem.retryAfterS ?? PAUSE_S);
        }
      }
    } finally {
      this.#working = null; // a fault ends this round, not the rest
    }
  }
}
