/** Single keys as commands. Nothing happens while somebody types, in a dialog, or with Ctrl, Alt or Meta held. */

import { isOn } from "./settings.js";

const TYPING = "input:not([type=radio], [type=checkbox], [type=button]), textarea, select, [contenteditable]";

/** `commands`: name of a key → function(event), which returns false where the key means nothing at the moment. */
export function listen(commands) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.repeat || event.isComposing || event.ctrlKey || event.metaKey) return;
    const name = nameOf(event);
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (!command || elsewhere(event.target, name)) return;
    if (!isOn("keys") && name !== "Escape" && name !== "Enter") return;
    if (command(event) !== false) event.preventDefault();
  });
}

/** As "a", "3", "?", "Enter", "ArrowUp", "Alt+ArrowUp"; digits by their place, whatever the layout has there. */
function nameOf(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  if (digit && !event.shiftKey && !event.altKey) return digit[1];
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return event.altKey ? `Alt+${name}` : name;
}

function elsewhere(target, name) {
  if (document.querySelector("dialog[open]")) return true;
  if (!(target instanceof Element)) return false;
  if (target.matches(TYPING)) return name !== "Escape";
  // Enter sends, also from the handle of an answer that is being moved; space still presses it.
  return name === "Enter" && target.matches("button:not(.handle), a, summary");
}
