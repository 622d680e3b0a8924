/** Conversations as people read them: one turn plainly, several with who says them. */

import { capital, h, sanitised } from "./dom.js";
import { isOn } from "./settings.js";

const NAMES = { user: "User", assistant: "Assistant", system: "System", tool: "Tool" };

/** The turns as Markdown, or as raw text where that is set. */
export function conversation(turns) {
  if (turns.length === 0) return [h("p", { class: "empty" }, "(nothing)")];
  const alone = turns.length === 1 && turns[0].role !== "system";
  return turns.map((turn) =>
    h(
      "div",
      { class: alone ? "turn" : "turn spoken", "data-role": turn.role },
      !alone && h("p", { class: "role" }, NAMES[turn.role] ?? capital(turn.role)),
      text(turn),
    ),
  );
}

function text(turn) {
  if (turn.text.trim() === "") return h("p", { class: "empty" }, "(empty)");
  if (isOn("raw")) return h("div", { class: "raw", dir: "auto" }, turn.text);
  return sanitised(turn.html);
}
