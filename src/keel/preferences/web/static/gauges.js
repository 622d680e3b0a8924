/** Numbers with their intervals, as small pictures. */

import { h, svg } from "./dom.js";

export const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);

/** A bar from `low` to `high` with a mark at `value`, on a scale from `from` to 1; `line` is to compare with. */
export function interval({ value, low, high }, { from = 0, line = null } = {}) {
  const at = (number) => 100 * Math.min(1, Math.max(0, (number - from) / (1 - from)));
  return svg(
    "svg",
    { class: "interval", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 3, width: 100, height: 6, rx: 3 }),
    low !== null &&
      svg("rect", { class: "range", x: at(low), y: 3, width: Math.max(1, at(high) - at(low)), height: 6 }),
    line !== null && svg("rect", { class: "line", x: at(line) - 0.4, y: 0, width: 0.8, height: 12 }),
    svg("rect", { class: "value", x: at(value) - 0.9, y: 1, width: 1.8, height: 10 }),
  );
}

/** A share of a whole, as a bar. */
export function bar(share) {
  return svg(
    "svg",
    { class: "interval", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 3, width: 100, height: 6, rx: 3 }),
    svg("rect", { class: "value", x: 0, y: 3, width: 100 * Math.min(1, share), height: 6, rx: 3 }),
  );
}

/** Counts side by side, the latest on the right. */
export function columns(counts) {
  const most = Math.max(1, ...counts);
  const width = 100 / Math.max(7, counts.length);
  const columns = counts.map((count, index) => {
    const height = Math.max(1, (28 * count) / most);
    return svg("rect", { class: "value", x: index * width, y: 30 - height, width: width * 0.8, height });
  });
  return svg(
    "svg",
    { class: "columns", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" },
    ...columns,
  );
}

/** A dot for each vote over −3 … +3. */
export function votes(strengths) {
  const heights = new Map();
  const dots = strengths.map((strength) => {
    const height = heights.get(strength) ?? 0;
    heights.set(strength, height + 1);
    return svg("circle", { class: "vote", cx: 10 + 18 * (strength + 3), cy: 30 - 11 * Math.min(height, 2), r: 5 });
  });
  const steps = [-3, -2, -1, 0, 1, 2, 3].map((step) =>
    svg("rect", {
      class: step === 0 ? "middle" : "step",
      x: 3 + 18 * (step + 3),
      y: 38,
      width: 14,
      height: 3,
      rx: 1.5,
    }),
  );
  return svg("svg", { class: "votes", viewBox: "0 0 128 44", "aria-hidden": "true" }, ...steps, ...dots);
}

/** When something was, in words. */
export function ago(then, now) {
  const minutes = Math.round((now - then) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return new Date(then * 1000).toLocaleDateString("en", { dateStyle: "medium" });
}

/** A card with a title, one large number, and what it is about. */
export function card(title, big, small, ...more) {
  return h(
    "div",
    { class: "card" },
    h("h3", {}, title),
    h("p", { class: "big" }, big, small && h("small", {}, ` ${small}`)),
    ...more,
  );
}
