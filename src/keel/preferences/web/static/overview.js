/** Progress in cards, and agreement with its intervals. */

import { $, h } from "./dom.js";
import { bar, card, columns, interval } from "./gauges.js";

const MEASURES = {
  observed: ["Observed", "pairs of votes on an item that say the same: first, tie or second", 0],
  observed_without_ties: ["Without ties", "the same among votes that prefer one", 0],
  unanimous: ["Unanimous", "items on which all votes say the same", 0],
  ac1: ["Gwet’s AC1", "above chance; holds up where one label is rare", -0.2],
  alpha: ["Krippendorff’s α", "above chance; first, tie, second", -0.2],
  alpha_ordinal: ["α, with strength", "above chance; far apart counts more", -0.2],
  fleiss: ["Fleiss’ κ", "above chance; falls where one label is common", -0.2],
  cohen: ["Cohen’s κ", "mean over pairs of annotators", -0.2],
};

export function showProgress({ counts, days, annotators }, now) {
  const wanted = counts.judgements + counts.missing;
  const lately = days.slice(0, 21).map((day) => day.judgements); // the newest day comes first
  const active = annotators.filter((person) => person.last !== null && now - person.last < 900).length;
  $("progress-cards").replaceChildren(
    card("Judgements", number(counts.judgements), `of ${number(wanted)}`, bar(wanted ? counts.judgements / wanted : 0)),
    card(
      "Items done",
      number(counts.done),
      `of ${number(counts.items)}`,
      bar(counts.items ? counts.done / counts.items : 0),
    ),
    card(
      days.length > 0 ? "On the last day" : "By day",
      days.length > 0 ? number(lately[0]) : "–",
      "judgements",
      columns([...lately].reverse()),
      h("p", {}, `${number(active)} ${active === 1 ? "person" : "people"} in the last 15 minutes`),
    ),
    card(
      "Not compared",
      number(counts.skips + counts.flags),
      "skips and flags",
      h(
        "p",
        {},
        `${number(counts.skips)} skipped · ${number(counts.flags)} flagged · ${number(counts.aside)} set aside`,
      ),
      h("p", {}, `${number(counts.gold)} gold items · ${number(counts.repeats)} repeats`),
    ),
  );
}

export function showAgreement(agreement) {
  if (!agreement || agreement.items === 0) {
    $("agreement-table").replaceChildren(h("p", { class: "soft" }, "No item has two votes yet."));
    return;
  }
  const rows = Object.entries(MEASURES)
    .filter(([field]) => agreement[field].value !== null)
    .map(([field, [name, words, from]]) => {
      const measure = agreement[field];
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, name, h("small", {}, words)),
        h("td", { class: "number" }, measure.value.toFixed(2)),
        h("td", { class: "drawn" }, interval(measure, { from, line: 0 })),
        h("td", { class: "number soft" }, range(measure)),
      );
    });
  $("agreement-table").replaceChildren(
    h(
      "p",
      { class: "soft" },
      `${number(agreement.votes)} votes on ${number(agreement.items)} items; 95 % intervals over the items.`,
    ),
    h(
      "div",
      { class: "panel" },
      h(
        "table",
        { class: "agreement" },
        h("thead", {}, h("tr", {}, ...["Measure", "Value", "", "Interval"].map(heading))),
        h("tbody", {}, ...rows),
      ),
    ),
  );
}

function heading(words) {
  return words ? h("th", { scope: "col" }, words) : h("td", { class: "drawn" });
}

function range({ low, high }) {
  return low === null || high === null ? "–" : `${low.toFixed(2)} to ${high.toFixed(2)}`;
}

function number(value) {
  return value.toLocaleString("en");
}
