/** What was done to whom, the latest first. */

import { $, h } from "./dom.js";

export function showEvents(events) {
  if (events.length === 0) return $("event-list").replaceChildren(h("p", { class: "soft" }, "Nothing yet."));
  const rows = events.map((event) =>
    h(
      "tr",
      {},
      h(
        "td",
        { class: "soft" },
        new Date(event.at * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }),
      ),
      h("td", { dir: "auto" }, `${event.by} · ${event.what} · ${event.whom}`),
      h("td", { class: "words", dir: "auto" }, event.why),
    ),
  );
  return $("event-list").replaceChildren(
    h(
      "div",
      { class: "panel scroll", tabindex: 0, role: "region", "aria-label": "Table of events" },
      h(
        "table",
        { class: "ballots" },
        h("thead", {}, h("tr", {}, ...["When", "What", "Why"].map((words) => h("th", { scope: "col" }, words)))),
        h("tbody", {}, ...rows),
      ),
    ),
  );
}
