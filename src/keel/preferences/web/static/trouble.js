/** Why nothing goes to the server at the moment, and what happens to what was said. */

import { capital, h } from "./dom.js";

/** The sentences for the page's alarm, and a button that tries again at once. */
export function troubleWords(error, unsent, retry) {
  const kept =
    unsent > 0 &&
    `${unsent === 1 ? "One verdict is" : `${unsent} verdicts are`} kept here and sent as soon as it works. `;
  const link = error.status === 401 && h("a", { href: "/sign-in", target: "_blank" }, "How to sign in");
  return [
    h("b", {}, headline(error)),
    " ",
    kept || null,
    link || null,
    h("button", { type: "button", class: "plain", onclick: retry }, "Try now"),
  ].filter((part) => part !== null);
}

function headline(error) {
  if (error.status === 0) return "No connection.";
  if (error.status === 401) return "You are signed out: open your sign-in link in another tab, then try again here.";
  if (error.status === 429) return "The server asks for a slower pace.";
  if (error.status >= 500) return "The server is in trouble.";
  return capital(error.message ?? "That did not work.");
}
