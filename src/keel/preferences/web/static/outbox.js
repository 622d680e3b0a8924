/** What is to be sent, in order: one call at a time, each again and again until the server has answered it. */

import { Refusal } from "./api.js";

const LONGEST_WAIT = 15;

/**
 * A job is {send, done, refused, keep}: `send` makes the call, `done` gets its reply, `refused` the reason where the
 * server will not have it. What cannot be sent for the moment stays first in line. `keep`, where a job has it, makes
 * the body for /api/judgements that is to outlive the page.
 */
export class Outbox {
  #jobs = [];
  #running = false;
  #failures = 0;
  #wake = null;

  /** `onstate(refusal or null, verdicts that wait)`: what holds the line up, if any. `shelf`: a name in storage. */
  constructor(shelf, onstate) {
    this.shelf = shelf;
    this.onstate = onstate;
    this.trouble = null;
    addEventListener("online", () => this.retry());
  }

  get waiting() {
    return this.#jobs.length;
  }

  /** How many verdicts are not with the server yet. */
  get unsent() {
    return this.#jobs.filter((job) => job.keep).length;
  }

  push(job) {
    this.#jobs.push(job);
    this.#shelve();
    if (this.trouble) this.onstate(this.trouble, this.unsent);
    this.#run();
    return job;
  }

  /** Takes a job back; false where it is too late for that. */
  cancel(job) {
    const place = this.#jobs.indexOf(job);
    if (place < 0 || job.begun) return false;
    this.#jobs.splice(place, 1);
    this.#shelve();
    return true;
  }

  /** Does not wait any longer for the next try. */
  retry() {
    this.#wake?.();
  }

  /** The bodies that a page which is gone could not send. */
  static kept(shelf) {
    return JSON.parse(sessionStorage.getItem(shelf) ?? "[]");
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    while (this.#jobs.length > 0) {
      const job = this.#jobs[0];
      job.begun = true;
      try {
        const reply = await job.send();
        this.#finish();
        job.done(reply);
        this.#shelve();
      } catch (error) {
        if (!(error instanceof Refusal)) {
          this.#running = false;
          throw error;
        }
        if (error.passing) await this.#pause(error);
        else {
          this.#finish();
          job.refused(error);
        }
      }
    }
    this.#running = false;
  }

  #finish() {
    this.#jobs.shift();
    this.#shelve();
    this.#failures = 0;
    if (this.trouble) this.onstate((this.trouble = null), this.unsent);
  }

  async #pause(error) {
    const backoff = Math.min(LONGEST_WAIT, 2 ** this.#failures);
    this.#failures += 1;
    // A short wait that the server asks for is no trouble to tell anybody about.
    if (error.status !== 429 || this.#failures > 1) this.onstate((this.trouble = error), this.unsent);
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, 1000 * (error.wait ?? (error.held ? 30 : backoff)));
    });
    this.#wake = null;
  }

  #shelve() {
    const bodies = this.#jobs.filter((job) => job.keep).map((job) => job.keep());
    if (bodies.length > 0) sessionStorage.setItem(this.shelf, JSON.stringify(bodies));
    else sessionStorage.removeItem(this.shelf);
  }
}
