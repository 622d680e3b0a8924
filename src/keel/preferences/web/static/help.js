/** The dialog with the keys and the settings. */

import { $, h } from "./dom.js";
import { isOn, set, setting, switchTheme } from "./settings.js";
import { sides } from "./words.js";

const pair = ([one, other]) => [
  ["1 2 3", `${one} is much better, better, slightly better`],
  ["4", "no difference"],
  ["5 6 7", `${other} is slightly better, better, much better`],
  ["Enter", "send what is chosen"],
];
const RANKING = [
  ["1 2 3 …", "take the answer at that place, or let it go"],
  ["↑ ↓", "move it up or down"],
  ["Enter", "send the order"],
];
const ALWAYS = [
  ["B", "both (all) bad, or you cannot judge"],
  ["S", "skip: somebody else gets it"],
  ["F", "flag, with a reason"],
  ["N", "write a note; Esc leaves it"],
  ["U", "undo the last verdict, then the one before it"],
  ["G", "guidelines"],
  ["R", "raw text or Markdown"],
  ["?", "this page"],
];

export class Help {
  /** `raw()` when raw text is turned on or off. */
  constructor(raw) {
    this.dialog = $("help");
    $("open-help").addEventListener("click", () => this.open());
    $("close-help").addEventListener("click", () => this.dialog.close());
    $("theme").addEventListener("click", switchTheme);
    for (const name of ["confirm", "keys", "raw"]) {
      $(`setting-${name}`).addEventListener("change", (event) => {
        set(name, event.target.checked ? "on" : "off");
        if (name === "raw") raw();
      });
    }
    for (const radio of this.dialog.querySelectorAll("[name=theme]")) {
      radio.addEventListener("change", () => set("theme", radio.value));
    }
  }

  /** With the keys for items as the one that was shown last, `ranked` or not. */
  open() {
    for (const name of ["confirm", "keys", "raw"]) $(`setting-${name}`).checked = isOn(name);
    for (const radio of this.dialog.querySelectorAll("[name=theme]")) radio.checked = radio.value === setting("theme");
    const rows = [...(this.ranked ? RANKING : pair(sides())), ...ALWAYS].map(([keys, words]) =>
      h("div", {}, h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, words)),
    );
    $("keys").replaceChildren(...rows);
    this.dialog.showModal();
  }
}
