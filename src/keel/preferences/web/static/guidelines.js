/** The guidelines in a pane beside the answers; a new version opens it, and says so. */

import { $, sanitised, scrollable } from "./dom.js";
import { Refusal } from "./api.js";
import { set, setting } from "./settings.js";

export class GuidelinesPane {
  /** `tell(words)` is heard by screen readers. */
  constructor(api, tell) {
    this.api = api;
    this.tell = tell;
    // `version` is what judgements name: the newest that could be read here.
    this.version = 0;
    this.loaded = 0;
    $("open-guidelines").addEventListener("click", () => this.toggle());
    $("close-guidelines").addEventListener("click", () => this.close());
  }

  get isOpen() {
    return !$("guidelines").hidden;
  }

  toggle() {
    if (this.isOpen) this.close();
    else this.open(true);
  }

  open(focus) {
    $("guidelines").hidden = false;
    $("open-guidelines").setAttribute("aria-expanded", "true");
    scrollable($("guidelines-text"));
    if (focus) $("guidelines-title").focus();
    this.#read();
  }

  close() {
    if (!this.isOpen) return false;
    const inside = $("guidelines").contains(document.activeElement);
    $("guidelines").hidden = true;
    $("open-guidelines").setAttribute("aria-expanded", "false");
    if (inside) $("open-guidelines").focus();
    return true;
  }

  /** The newest version is this one: fetched, and shown where it has not been shown on this device before. */
  async notice(version) {
    if (typeof version !== "number" || version <= this.loaded) return;
    const before = this.loaded;
    const changed = before > 0;
    this.loaded = version;
    this.version ||= version;
    let guideline;
    try {
      guideline = await this.api.get("/api/guidelines");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.loaded = before;
      return;
    }
    this.version = this.loaded = guideline.version;
    $("guidelines-text").replaceChildren(sanitised(guideline.html));
    const date = new Date(guideline.at * 1000).toLocaleDateString("en", { dateStyle: "long" });
    $("guidelines-version").textContent = `Version ${guideline.version}, ${date}${changed ? ": new just now" : ""}`;
    $("guidelines").classList.toggle("new", changed);
    if (changed) this.tell(`The guidelines have changed: version ${guideline.version}. Press G to read them.`);
    if (changed || setting("guidelines") !== String(guideline.version)) this.open(false);
  }

  /** What is before the eyes counts as read. */
  #read() {
    if (this.loaded > 0) set("guidelines", String(this.loaded));
  }
}
