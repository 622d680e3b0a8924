/** The reviewer's page: everything is fetched as one, and anew after each act. */

import { $, capital } from "./dom.js";
import { Api, Refusal } from "./api.js";
import { showGuideline } from "./editor.js";
import { showEvents } from "./events.js";
import { wireInvitations } from "./invite.js";
import { showDisagreements, showFlags } from "./items.js";
import { showAgreement, showProgress } from "./overview.js";
import { StateDialog, showPeople } from "./people.js";
import { switchTheme } from "./settings.js";

const ASK_AGAIN = 30_000;

const api = new Api(document.querySelector("meta[name=csrf]").content);
const { name: me } = $("main").dataset;
const admin = $("main").dataset.admin === "yes";
const dialog = new StateDialog((name, state, why) =>
  act(`/api/review/annotators/${encodeURIComponent(name)}/state`, { state, why }, `${name} is ${state} now.`),
);

async function show() {
  const [review, guideline] = await Promise.all([api.get("/api/review"), api.get("/api/guidelines")]);
  const now = review.at;
  showProgress(review, now);
  showAgreement(review.agreement);
  showPeople(review.annotators, now, { ask: (name, state) => dialog.open(name, state), revoke, admin, me });
  showDisagreements(review.disputed, put);
  showFlags(review.flags, review.set_aside, now, put);
  showGuideline(guideline, admin, { publish, render });
  showEvents(review.events);
  asOf(now);
  $("main").dataset.state = "shown";
}

/** The numbers at the top alone: whatever is open or half written below stays as it is. */
async function refresh() {
  if (document.visibilityState !== "visible") return;
  const review = await api.get("/api/review");
  showProgress(review, review.at);
  showAgreement(review.agreement);
  asOf(review.at);
}

function asOf(now) {
  $("as-of").textContent = `As of ${new Date(now * 1000).toLocaleTimeString("en", { timeStyle: "short" })}`;
}

/** Asks the server for it, says what came of it, and shows everything anew; the reply, or null where it was refused. */
async function act(path, body, words) {
  const reply = await told(() => api.post(path, body));
  if (reply === null) return null;
  $("heard").textContent = words;
  await told(show);
  return reply;
}

async function told(step) {
  try {
    const reply = await step();
    $("alarm").hidden = true;
    return reply;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    $("alarm").textContent = capital(error.message);
    $("alarm").hidden = false;
    $("alarm").scrollIntoView({ block: "center" });
    return null;
  }
}

function put(item, aside) {
  act(`/api/review/items/${encodeURIComponent(item)}/aside`, { aside }, aside ? "Set aside." : "Put back.");
}

function revoke(name) {
  act(
    `/api/people/${encodeURIComponent(name)}/revoke`,
    {},
    `${name} is signed out everywhere, and open links are no longer good.`,
  );
}

function publish(text) {
  act("/api/guidelines", { text }, "Published.");
}

async function render(text) {
  return (await told(() => api.post("/api/guidelines/preview", { text })))?.html ?? "";
}

wireInvitations(
  async (name, role) => (await act("/api/people", { name, role }, `There is a link for ${name}.`))?.link ?? null,
);
$("theme").addEventListener("click", switchTheme);
told(show);
setInterval(() => told(refresh), ASK_AGAIN);
