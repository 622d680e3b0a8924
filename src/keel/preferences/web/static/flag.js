/** The dialog that asks why an item is flagged. */

import { $ } from "./dom.js";

const LONGEST = 200;

export class FlagDialog {
  /** `flag(reason)` once it is sent. */
  constructor(flag) {
    this.dialog = $("flag");
    this.form = this.dialog.querySelector("form");
    this.form.addEventListener("submit", () => flag(this.reason));
    // Not back to the button, where Enter would flag the next item; the event comes late, so other focus stays.
    this.dialog.addEventListener("close", () => {
      if (document.activeElement === $("open-flag")) $("prompt-title").focus({ preventScroll: true });
    });
    $("cancel-flag").addEventListener("click", () => this.dialog.close());
  }

  open() {
    this.form.reset();
    this.dialog.showModal();
    this.form.elements.reason[0].focus();
  }

  get reason() {
    const words = $("reason-text").value.trim();
    const choice = this.form.elements.reason.value;
    return (words ? `${choice}: ${words}` : choice).slice(0, LONGEST);
  }
}
