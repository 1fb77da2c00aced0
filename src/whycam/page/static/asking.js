// One question at a time: it is sent, waited for, and taken back when another comes.

import * as api from "./api.js";

const SOONEST = 80; // milliseconds between two looks at a job, the first and the last
const LATEST = 700;

/** The newest question; what older ones still bring is dropped. */
export class Asking {
  #turn = 0;
  #jobs = new Set();

  /**
   * Ask several models at once. Returns for each its `result`, or the `error` that it refused with; or null where a
   * newer question, or `stop`, came between.
   *
   * questions: what api.start takes. heard: told each job's state, by its number, as it changes.
   */
  async ask(questions, heard) {
    this.stop();
    const turn = this.#turn;
    const found = await Promise.allSettled(questions.map((each, k) => this.#one(each, turn, (state) => heard(k, state))));
    if (turn !== this.#turn) return null;
    return found.map(({ value, reason }) => ({ result: value, error: reason }));
  }

  /** Take back what is asked; whether anything was. */
  stop() {
    this.#turn++;
    const any = this.#jobs.size > 0;
    for (const id of this.#jobs) api.cancel(id).catch(() => {}); // it may have ended meanwhile
    this.#jobs.clear();
    return any;
  }

  async #one(question, turn, heard) {
    const { job } = await api.start(question);
    if (turn !== this.#turn) {
      api.cancel(job).catch(() => {});
      return null;
    }
    this.#jobs.add(job);
    try {
      for (let pause = SOONEST; turn === this.#turn; pause = Math.min(1.5 * pause, LATEST)) {
        const state = await api.job(job);
        if (turn !== this.#turn) return null;
        heard(state);
        if (state.state === "done") return state.result;
        if (state.state === "failed") throw new api.Refused(state.error, 0);
        if (state.state === "cancelled") throw new api.Refused("This was cancelled. Choose it again to ask once more.", 0);
        await new Promise((resume) => setTimeout(resume, pause));
      }
      return null;
    } finally {
      this.#jobs.delete(job);
    }
  }
}
