/** The guidelines: to read for reviewers, to write with a preview for admins. */

import { $, h, sanitised } from "./dom.js";

const PAUSE = 400;

/** `publish(text)` makes a new version; `render(text)` promises its HTML. */
export function showGuideline(guideline, admin, { publish, render }) {
  const date = new Date(guideline.at * 1000).toLocaleDateString("en", { dateStyle: "long" });
  const by = guideline.author ? `, by ${guideline.author}` : "";
  const about = h(
    "p",
    { class: "soft" },
    `Version ${guideline.version}, ${date}${by}. Each judgement names the version that was shown.`,
  );
  const preview = h("div", { class: "panel preview" }, sanitised(guideline.html, 2));
  if (!admin) return $("guideline-box").replaceChildren(about, preview);
  const text = h("textarea", { id: "guideline-text", rows: 16, maxlength: 100000, spellcheck: "true" });
  text.value = guideline.text;
  const send = h("button", { class: "primary", disabled: true }, "Publish as a new version");
  let timer = null;
  text.addEventListener("input", () => {
    send.disabled = text.value.trim() === "" || text.value === guideline.text;
    clearTimeout(timer);
    timer = setTimeout(async () => preview.replaceChildren(sanitised(await render(text.value), 2)), PAUSE);
  });
  const form = h(
    "form",
    { class: "editor" },
    h("div", {}, h("label", { for: "guideline-text" }, "Text (Markdown)"), text),
    h("div", {}, h("p", { class: "label" }, "As annotators see it"), preview),
    h("div", { class: "buttons" }, send),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    publish(text.value);
  });
  return $("guideline-box").replaceChildren(about, form);
}
