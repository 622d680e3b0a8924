/** Several answers as a list from the best to the worst, ordered by dragging, by keys, or with two small buttons. */

import { $, h } from "./dom.js";
import { draggable } from "./drag.js";
import { conversation } from "./turns.js";
import { letter } from "./words.js";

export class Rank {
  /** `say(verdict)` when the order is sent; `tell(words)` is heard by screen readers. */
  constructor(say, tell) {
    this.say = say;
    this.tell = tell;
    this.order = [];
    this.chosen = null;
    this.touched = false;
    this.send = h("button", { type: "button", class: "primary wide", onclick: () => this.submit() });
    this.controls = h("div", { class: "order" }, h("p", { class: "soft small hint" }), this.send);
  }

  /** The answers in the order in which they were served, or in that which was said before. */
  show(item, said) {
    this.order = said?.places ? [...said.places] : item.answers.map((_, place) => place);
    this.touched = Boolean(said?.places);
    this.chosen = null;
    this.list = h("ol", { class: "ranking", "aria-label": "Answers, the best first" });
    this.cards = item.answers.map((answer, place) => this.#card(answer, place));
    this.list.append(...this.order.map((place) => this.cards[place]));
    $("answers").className = "ranked";
    $("answers").replaceChildren(
      h("p", { class: "end", "aria-hidden": "true" }, "Best"),
      this.list,
      h("p", { class: "end", "aria-hidden": "true" }, "Worst"),
    );
    if (this.controls.parentNode !== $("verdict")) $("verdict").replaceChildren(this.controls);
    const last = this.order.length;
    this.controls.firstChild.textContent = `Drag by the handle, or press 1 to ${last} to take one and ↑ ↓ to move it.`;
    this.#name();
    requestAnimationFrame(() => this.#clamp());
  }

  /** Marks the answer at this place as the one that the arrows move; once more lets it go. */
  choose(number) {
    const place = this.order[number - 1];
    if (place === undefined) return false;
    this.chosen = this.chosen === place ? null : place;
    this.#name();
    if (this.chosen !== null) {
      this.#handle(place).focus({ preventScroll: true });
      this.#reveal(place);
      this.tell(`Answer ${letter(place)} taken, place ${number} of ${this.order.length}. Move it with up and down.`);
    } else this.tell(`Answer ${letter(place)} left at place ${number}.`);
    return true;
  }

  release() {
    if (this.chosen === null) return false;
    this.chosen = null;
    this.#name();
    return true;
  }

  /** Moves the chosen answer (or the one in focus) up or down by one. */
  move(by) {
    const focused = this.cards?.findIndex((card) => card.contains(document.activeElement)) ?? -1;
    const place = this.chosen ?? (focused < 0 ? null : focused);
    return place !== null && this.shift(place, by);
  }

  shift(place, by) {
    const from = this.order.indexOf(place);
    const to = from + by;
    this.touched = true;
    if (to < 0 || to >= this.order.length) return true;
    this.order.splice(from, 1);
    this.order.splice(to, 0, place);
    const neighbour = by < 0 ? this.cards[place].previousElementSibling : this.cards[place].nextElementSibling;
    // The neighbour moves round the card, not the card itself: focus and pointer stay with it.
    this.cards[place][by < 0 ? "after" : "before"](neighbour);
    this.#name();
    this.#reveal(place);
    this.tell(`Answer ${letter(place)}: place ${to + 1} of ${this.order.length}.`);
    return true;
  }

  /** The order as it is, null as long as nobody has touched it. */
  get draft() {
    return this.touched ? { places: [...this.order] } : null;
  }

  /** Sends the order; one that nobody has touched only after a second time. */
  submit() {
    if (!this.touched) {
      this.touched = true;
      this.send.replaceChildren("Nothing was moved. Send this order as it is? ", h("kbd", {}, "Enter"));
      this.tell("Nothing was moved. Press Enter again to send this order as it is.");
      return;
    }
    this.say(this.draft);
  }

  #card(answer, place) {
    const name = letter(place);
    const handle = h(
      "button",
      { type: "button", class: "handle", onclick: () => this.#clicked(place) },
      h("span", { class: "place" }),
      h("span", { class: "dots", "aria-hidden": "true" }, "⠿"),
    );
    const card = h(
      "li",
      { class: "sheet answer" },
      h(
        "div",
        { class: "grip" },
        handle,
        h("button", { type: "button", "aria-label": `Answer ${name} up`, onclick: () => this.shift(place, -1) }, "↑"),
        h("button", { type: "button", "aria-label": `Answer ${name} down`, onclick: () => this.shift(place, 1) }, "↓"),
      ),
      h("div", { class: "said" }, h("h2", {}, `Answer ${name}`), h("div", { class: "body" }, ...conversation(answer))),
    );
    draggable(handle, card, {
      start: () => {
        this.list.classList.add("sorting");
        card.classList.add("held");
      },
      moved: (by) => this.shift(place, by),
      end: () => {
        this.list.classList.remove("sorting");
        card.classList.remove("held");
        this.dropped = performance.now();
        this.#reveal(place);
      },
    });
    return card;
  }

  #clicked(place) {
    // Letting go after a drag is a click too, which means nothing.
    if (performance.now() - (this.dropped ?? -1000) > 100) this.choose(this.order.indexOf(place) + 1);
  }

  #handle(place) {
    return this.cards[place].querySelector(".handle");
  }

  #name() {
    this.order.forEach((place, index) => {
      const handle = this.#handle(place);
      const chosen = this.chosen === place;
      handle.querySelector(".place").textContent = String(index + 1);
      handle.setAttribute("aria-pressed", String(chosen));
      handle.setAttribute("aria-label", `Answer ${letter(place)}, place ${index + 1} of ${this.order.length}: move`);
      this.cards[place].classList.toggle("chosen", chosen);
    });
    const words = this.order.map(letter).join(" › ");
    this.send.replaceChildren(`Send this order: ${words} `, h("kbd", { "aria-hidden": "true" }, "Enter"));
  }

  #reveal(place) {
    if (!this.list.classList.contains("sorting")) this.cards[place].scrollIntoView({ block: "nearest" });
  }

  /** Long answers are folded, with a button that opens them. */
  #clamp() {
    for (const card of this.cards) {
      const body = card.querySelector(".body");
      if (body.scrollHeight <= body.clientHeight + 4) continue;
      const open = h("button", { type: "button", class: "plain unfold", "aria-expanded": "false" }, "Show all of it");
      open.addEventListener("click", () => {
        const opened = card.classList.toggle("open");
        open.setAttribute("aria-expanded", String(opened));
        open.textContent = opened ? "Show less" : "Show all of it";
      });
      body.after(open);
    }
  }
}
