/** Two answers of equal size, and the seven buttons between them. */

import { $, capital, h } from "./dom.js";
import { conversation } from "./turns.js";
import { STRONGEST, pressedWords, sides, whenSidesChange } from "./words.js";

const MARKS = { "-3": "‹‹‹", "-2": "‹‹", "-1": "‹", 0: "=", 1: "›", 2: "››", 3: "›››" };
const SHORT = ["same", "slightly", "better", "much"];

export class Compare {
  /** `say(verdict)` when a button is pressed. */
  constructor(say) {
    this.say = say;
    this.armed = null;
    this.titles = [0, 1].map((place) => h("h2", { id: `answer-${place}` }));
    this.ends = [0, 1].map(() => h("span"));
    this.buttons = Array.from({ length: 2 * STRONGEST + 1 }, (_, index) => this.#button(index - STRONGEST));
    this.scale = h(
      "div",
      { class: "scale", role: "group", "aria-label": "Which answer is better?" },
      h("p", { class: "ends", "aria-hidden": "true" }, ...this.ends),
      h("div", { class: "seven" }, ...this.buttons),
    );
    this.#name();
    whenSidesChange(() => this.#name());
  }

  /** The answers as nodes, and what was said of them before, if anything. */
  show(item, said) {
    const sheets = item.answers.map((answer, place) =>
      h(
        "section",
        { class: "sheet answer", "aria-labelledby": `answer-${place}` },
        this.titles[place],
        h("div", {}, ...conversation(answer)),
      ),
    );
    $("answers").className = "pair";
    $("answers").replaceChildren(...sheets);
    if (this.scale.parentNode !== $("verdict")) $("verdict").replaceChildren(this.scale);
    this.arm(said?.pressed ?? null);
  }

  /** Marks a button as chosen, without sending it. */
  arm(pressed) {
    this.armed = pressed;
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(Number(button.value) === pressed));
    }
  }

  /** What Enter sends, null where nothing is chosen. */
  get draft() {
    return this.armed === null ? null : { pressed: this.armed };
  }

  /** Keys 1…7. */
  press(number) {
    if (number < 1 || number > this.buttons.length) return false;
    this.say({ pressed: number - 1 - STRONGEST });
    return true;
  }

  #button(pressed) {
    return h(
      "button",
      {
        type: "button",
        value: pressed,
        "aria-pressed": "false",
        "aria-keyshortcuts": pressed + STRONGEST + 1,
        onclick: () => this.say({ pressed }),
      },
      h("span", { class: "mark-of", "aria-hidden": "true" }, MARKS[pressed]),
      h("span", { class: "long" }),
      h("span", { class: "short", "aria-hidden": "true" }, SHORT[Math.abs(pressed)]),
      h("kbd", { "aria-hidden": "true" }, String(pressed + STRONGEST + 1)),
    );
  }

  #name() {
    const [one, other] = sides();
    this.titles[0].textContent = `${capital(one)} answer`;
    this.titles[1].textContent = `${capital(other)} answer`;
    this.ends[0].textContent = `‹ ${one} is better`;
    this.ends[1].textContent = `${other} is better ›`;
    this.buttons.forEach((button, index) => {
      button.querySelector(".long").textContent = capital(pressedWords(index - STRONGEST));
    });
  }
}
