/** Links that let somebody in, for admins. */

import { $, h } from "./dom.js";

/** `invite(name, role)` promises the link, null where it was refused. */
export function wireInvitations(invite) {
  const form = $("invite-form");
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = $("invite-name").value.trim();
    const link = await invite(name, $("invite-role").value);
    if (link === null) return;
    form.reset();
    show(name, link);
  });
}

function show(name, link) {
  const field = h("input", { type: "text", readonly: true, id: "link", value: link });
  const copied = h("span", { class: "soft", role: "status" });
  const copy = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(link);
      copied.textContent = "Copied.";
    } catch {
      copied.textContent = "Press Ctrl+C to copy.";
    }
  };
  $("invite-link").replaceChildren(
    h(
      "div",
      { class: "panel" },
      h("label", { for: "link" }, `The link for ${name}: it works once, and is shown only now.`),
      h("div", { class: "copy" }, field, h("button", { type: "button", onclick: copy }, "Copy")),
      copied,
    ),
  );
}
