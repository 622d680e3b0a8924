/** Items for the reviewer's eyes: those on which people disagree, those that are flagged, those set aside. */

import { $, capital, h, scrollable } from "./dom.js";
import { ago, votes } from "./gauges.js";
import { conversation } from "./turns.js";
import { DECLINES, stepWords } from "./words.js";

const FIRST = 8;

/** `put(id, aside)` sets an item aside, or puts it back. */
export function showDisagreements(disputed, put) {
  const list = disputed.map(({ item, votes: said }) =>
    folded(
      item,
      votes(said.map((vote) => vote.strength).filter((strength) => strength !== null)),
      [voteTable(said)],
      put,
    ),
  );
  fill($("disagreement-list"), list, "No item has votes that differ yet.");
}

export function showFlags(flags, setAside, now, put) {
  const flagged = new Set(flags.map(({ item }) => item.id));
  const list = [
    ...flags.map(({ item, vote }) =>
      folded(
        item,
        h("span", { class: "tag red", dir: "auto" }, vote.reason || "flagged"),
        [
          h(
            "p",
            { class: "soft small" },
            h("span", { dir: "auto" }, vote.annotator),
            vote.at && `, ${ago(vote.at, now)}`,
          ),
          vote.note && h("p", { dir: "auto" }, `Note: ${vote.note}`),
        ],
        put,
      ),
    ),
    ...setAside.filter((item) => !flagged.has(item.id)).map((item) => folded(item, null, [], put)),
  ];
  fill($("flag-list"), list, "Nothing is flagged, and nothing is set aside.");
}

function folded(one, mark, more, put) {
  const inner = h("div", { class: "inner" });
  const details = h(
    "details",
    { class: "panel item" },
    h(
      "summary",
      {},
      mark,
      h("span", { class: "snippet", dir: "auto" }, snippet(one.prompt)),
      one.aside && h("span", { class: "tag" }, "set aside"),
    ),
    inner,
  );
  // The texts are many: they are made when somebody looks.
  details.addEventListener("toggle", () => {
    if (!details.open || inner.childNodes.length > 0) return;
    inner.append(
      h("h3", {}, "Prompt"),
      h("div", { class: "prompt" }, ...conversation(one.prompt)),
      h(
        "div",
        { class: "sides" },
        ...one.answers.map((answer, place) =>
          h("div", { class: "side" }, h("h3", {}, answerName(one, place)), ...conversation(answer)),
        ),
      ),
      ...more.filter(Boolean),
      h(
        "p",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => put(one.id, !one.aside) }, one.aside ? "Put back" : "Set aside"),
      ),
    );
    scrollable(inner);
  });
  return details;
}

function answerName(one, place) {
  return one.answers.length === 2 ? ["First answer", "Second answer"][place] : `Answer ${place + 1}`;
}

function voteTable(said) {
  const rows = said.map((vote) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", dir: "auto" }, vote.annotator),
      h("td", {}, voteWords(vote)),
      h("td", { class: "words", dir: "auto" }, [vote.reason, vote.note].filter(Boolean).join(": ")),
    ),
  );
  return h(
    "table",
    { class: "ballots" },
    h("thead", {}, h("tr", {}, ...["Who", "Says", "Note"].map((words) => h("th", { scope: "col" }, words)))),
    h("tbody", {}, ...rows),
  );
}

function voteWords(vote) {
  if (vote.order) return vote.order.map((place) => place + 1).join(" before ");
  if (vote.strength === null) return capital(DECLINES[vote.kind]);
  return capital(stepWords(vote.strength, ["first", "second"]));
}

function snippet(prompt) {
  const words = (prompt.at(-1)?.text ?? "").replace(/\s+/g, " ").trim();
  return words.length > 140 ? `${words.slice(0, 140)}…` : words || "(empty prompt)";
}

/** The first of a list, and a button that brings the rest. */
function fill(place, list, otherwise) {
  const rest = list.slice(FIRST);
  const more = h("button", { type: "button", onclick: () => more.replaceWith(...rest) }, `Show ${rest.length} more`);
  place.replaceChildren(...list.slice(0, FIRST), ...(rest.length > 0 ? [more] : []));
  if (list.length === 0) place.append(h("p", { class: "soft" }, otherwise));
}
