/** Own progress and pace, in the page's top line. */

import { $, h } from "./dom.js";

export function showProgress({ done, today, left, per_hour: pace }) {
  const facts = [
    ["today", today],
    left === null ? ["in all", done] : ["left", left],
    pace === null ? null : ["an hour", Math.round(pace)],
  ].filter((fact) => fact !== null);
  $("progress").replaceChildren(
    ...facts.map(([words, number]) =>
      h("span", { class: "fact" }, h("b", {}, number.toLocaleString("en")), ` ${words}`),
    ),
  );
  $("share").hidden = left === null;
  $("share").value = left === null || done + left === 0 ? 0 : done / (done + left);
}
