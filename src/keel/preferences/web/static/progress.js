/** Own progress and pace, in the page's top line. */

import { $, h } from "./dom.js";

export function showProgress({ done, today, left, per_hour: pace }) {
  const facts = [
    ["today", today],
    ["left", left],
    pace === null ? null : ["an hour", Math.round(pace)],
  ].filter((fact) => fact !== null);
  $("progress").replaceChildren(
    ...facts.map(([words, number]) =>
      h("span", { class: "fact" }, h("b", {}, number.toLocaleString("en")), ` ${words}`),
    ),
  );
  $("share").value = done + left === 0 ? 0 : done / (done + left);
}
