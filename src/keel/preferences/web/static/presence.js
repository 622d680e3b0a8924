/** Whether somebody is there: for how long an item has been before their eyes, and signs of life for its lease. */

const BEAT = 60_000;
const A_DAY = 86_400;

export class Presence {
  #since = null;
  #item = null;

  /** `beat()` each minute while the page is visible; `back()` when it is visible again; `left()` when it goes. */
  constructor({ beat, back, left }) {
    for (const [where, name] of [
      [window, "focus"],
      [window, "blur"],
      [document, "visibilitychange"],
    ]) {
      where.addEventListener(name, () => this.#turn());
    }
    document.addEventListener("visibilitychange", () => this.visible && back());
    addEventListener("pagehide", left);
    addEventListener("pageshow", (event) => event.persisted && back());
    setInterval(() => this.visible && beat(), BEAT);
  }

  get visible() {
    return document.visibilityState === "visible";
  }

  /** This item is on the screen from now on (null: none is). */
  look(item) {
    this.#stop();
    this.#item = item;
    this.#turn();
  }

  /** Seconds for which the item on the screen has been looked at, null where never. */
  get looked() {
    this.#stop();
    this.#turn();
    return this.#item?.looked == null ? null : Math.min(this.#item.looked, A_DAY);
  }

  #turn() {
    if (this.#item && this.visible && document.hasFocus()) this.#since ??= performance.now();
    else this.#stop();
  }

  #stop() {
    if (this.#since === null) return;
    this.#item.looked = (this.#item.looked ?? 0) + (performance.now() - this.#since) / 1000;
    this.#since = null;
  }
}
