/** Everybody who labels: what is known of their judgements, and whether they may go on. */

import { $, h } from "./dom.js";
import { ago, interval, percent } from "./gauges.js";
import { buttonWords } from "./words.js";

const ORDER = { red: 0, amber: 1, ok: 2 };
const COLUMNS = [
  ["Name", ""],
  ["Judged", "judgements"],
  ["Reliable", "share right, as Dawid–Skene estimates it"],
  ["With others", "decides as another annotator does"],
  ["Gold", "right on items with a known answer"],
  ["Left", "share pressed on the left; half is expected. p adjusted across people"],
  ["Median", "seconds for a judgement"],
  ["Too fast", "judgements quicker than anybody reads"],
  ["Longest run", "of one button"],
  ["", ""],
];

/**
 * `ask(name, state)` when somebody is to be paused, excluded or let in again; `revoke(name)` ends their sessions; `me`
 * is whose page it is, and `admin` whether they may stop reviewers too.
 */
export function showPeople(annotators, now, acts) {
  if (annotators.length === 0) {
    $("people-table").replaceChildren(h("p", { class: "soft" }, "Nobody has judged anything yet."));
    return;
  }
  const worst = [...annotators].sort(
    (one, other) => ORDER[one.verdict] - ORDER[other.verdict] || other.judgements - one.judgements,
  );
  $("people-table").replaceChildren(
    h(
      "div",
      { class: "panel flush" },
      h(
        "table",
        { class: "people", role: "table" },
        h(
          "thead",
          { role: "rowgroup" },
          h("tr", { role: "row" }, ...COLUMNS.map(([words, title]) => column(words, title))),
        ),
        ...worst.map((person) => rows(person, now, acts)),
      ),
    ),
  );
}

function column(words, title) {
  return words === ""
    ? h("td", { role: "cell" })
    : h("th", { scope: "col", role: "columnheader", title: title || null }, words);
}

function rows(person, now, acts) {
  const odd = person.findings.filter((finding) => finding.verdict !== "ok");
  const fine = person.findings.filter((finding) => finding.verdict === "ok");
  return h(
    "tbody",
    { role: "rowgroup", class: `person ${person.verdict}`, "data-name": person.name },
    h(
      "tr",
      { role: "row" },
      h(
        "th",
        { scope: "row", role: "rowheader" },
        h("span", { class: "name", dir: "auto" }, person.name),
        h("span", { class: `state ${person.state}` }, person.state),
        h("small", {}, person.role, person.last ? `, ${ago(person.last, now)}` : ""),
      ),
      ...(person.judgements > 0
        ? measures(person)
        : [h("td", { role: "cell", class: "none", colspan: 8 }, "Nothing judged yet")]),
      h("td", { role: "cell", class: "acts" }, ...buttons(person, acts)),
    ),
    person.findings.length > 0 &&
      h(
        "tr",
        { role: "row" },
        h(
          "td",
          { role: "cell", class: "findings", colspan: COLUMNS.length },
          ...odd.map((finding) => sentence(finding)),
          fine.length > 0 &&
            h(
              "details",
              {},
              h("summary", {}, `${fine.length} measure${fine.length > 1 ? "s" : ""} without a finding`),
              ...fine.map(sentence),
            ),
        ),
      ),
  );
}

function measures(person) {
  const { reliability, agreement, gold, sides, pace, run } = person;
  return [
    cell("Judged", person.judgements.toLocaleString("en")),
    cell("Reliable", reliability === null ? "–" : percent(reliability)),
    measured("With others", agreement),
    measured("Gold", gold?.share),
    measured("Left", sides?.left, sides && `p ${short(sides.adjusted)}`, 0.5),
    cell("Median", pace ? `${pace.median.toFixed(1)} s` : "–"),
    measured("Too fast", pace?.too_fast),
    cell("Longest run", run ? `${run.length} ×` : "–", run && h("small", {}, buttonWords(run.button))),
  ];
}

function cell(label, ...content) {
  return h("td", { role: "cell", "data-label": label }, h("span", { class: "figure" }, ...content.filter(Boolean)));
}

function measured(label, share, more = null, line = null) {
  if (!share || share.value === null) return cell(label, "–");
  return h(
    "td",
    { role: "cell", "data-label": label },
    h("span", { class: "figure" }, percent(share.value), h("small", {}, more ?? `of ${share.trials}`)),
    h("span", { class: "unseen" }, `, between ${percent(share.low)} and ${percent(share.high)}`),
    interval(share, { line }),
  );
}

function sentence(finding) {
  return h(
    "p",
    { class: `finding ${finding.verdict}` },
    finding.verdict !== "ok" && h("b", {}, finding.verdict === "red" ? "Alarm " : "Look "),
    finding.message,
    finding.remedy && h("span", { class: "soft" }, ` ${finding.remedy}`),
  );
}

function buttons(person, { ask, revoke, admin, me }) {
  if (person.name === me || (person.role !== "annotator" && !admin)) return [];
  const act = (state) => {
    const [verb] = MEANINGS[state];
    const asked = () => ask(person.name, state);
    return h("button", { type: "button", "aria-label": `${verb} ${person.name}`, onclick: asked }, verb);
  };
  return [
    act(person.state === "active" ? "paused" : "active"),
    person.state !== "excluded" && act("excluded"),
    admin &&
      h(
        "button",
        {
          type: "button",
          class: "plain",
          "aria-label": `Sign out ${person.name} everywhere`,
          onclick: () => revoke(person.name),
        },
        "Sign out",
      ),
  ].filter(Boolean);
}

function short(p) {
  return p < 0.001 ? "< 0.001" : p.toPrecision(2);
}

const MEANINGS = {
  paused: ["Pause", "They get no more items until you let them in again. What they have said stays and counts."],
  excluded: [
    "Exclude",
    "They get no more items, and what they have said no longer counts: others are asked in their place.",
  ],
  active: ["Let in", "They may go on, and all that they have said counts."],
};

/** The dialog that asks for a reason; `send(name, state, why)` once it is given. */
export class StateDialog {
  constructor(send) {
    this.dialog = $("state");
    $("state-cancel").addEventListener("click", () => this.dialog.close());
    this.dialog
      .querySelector("form")
      .addEventListener("submit", () => send(this.name, this.state, $("state-why").value.trim()));
  }

  open(name, state) {
    [this.name, this.state] = [name, state];
    const [verb, meaning] = MEANINGS[state];
    $("state-title").textContent = `${verb}: ${name}`;
    $("state-meaning").textContent = meaning;
    $("state-do").textContent = verb;
    $("state-why").value = "";
    this.dialog.showModal();
    $("state-why").focus();
  }
}
