/** The items in hand: the first is before the annotator, the others are there so that the next comes at once. */

export const AHEAD = 2;

export class Queue {
  #items = [];
  #answered = new Set();

  get current() {
    return this.#items[0] ?? null;
  }

  get items() {
    return [...this.#items];
  }

  /** Takes in what the server has leased to us; what is known stays where it is. */
  merge(served) {
    for (const item of served) {
      if (this.#answered.has(item.token)) continue;
      const known = this.#items.find((one) => one.token === item.token);
      if (known) adopt(known, item);
      else this.#items.push({ ...item, looked: null, note: "", undone: false });
    }
  }

  /** Keeps of the items those that the server still has leased to us; returns how many are gone. */
  keep(served) {
    const before = this.#items.length;
    const tokens = new Set(served.map((item) => item.token));
    this.#items = this.#items.filter((item) => item.undone || tokens.has(item.token));
    return before - this.#items.length;
  }

  /** The first item is answered: the next one moves up. */
  take() {
    const item = this.#items.shift();
    this.#answered.add(item.token);
    return item;
  }

  /** An answer is taken back: its item comes first again. `undone`: it waits for a new token. */
  putBack(item, undone) {
    if (!undone) this.#answered.delete(item.token);
    item.undone = undone;
    item.looked = null;
    this.#items.unshift(item);
  }

  /** What was put back before has its new token now. */
  renew(item, served) {
    adopt(item, served);
    if (!this.#items.includes(item)) this.#answered.add(item.token);
  }

  drop(item) {
    this.#items = this.#items.filter((one) => one !== item);
  }
}

function adopt(known, served) {
  Object.assign(known, { token: served.token, undone: false });
}

/** Whether two items have the same texts in the same places. */
export function same(one, other) {
  return JSON.stringify([one.prompt, one.answers]) === JSON.stringify([other.prompt, other.answers]);
}
