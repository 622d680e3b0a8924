/** Elements from words: text stays text, and only what the server has sanitised becomes HTML. */

export const $ = (id) => document.getElementById(id);

/** `h("p", {class: "soft", onclick: f}, "text", child)`. What is false, null or undefined is left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** As `h`, of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// The one place where a string becomes HTML; the content policy allows no other.
const policy = globalThis.trustedTypes?.createPolicy("keel", { createHTML: (html) => html }) ?? {
  createHTML: (html) => html,
};

/** The `html` field of the server's, which it has sanitised, below the headings of the page (level `under`). */
export function sanitised(html, under = 2) {
  const template = document.createElement("template");
  template.innerHTML = policy.createHTML(html);
  for (const heading of template.content.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const level = Math.min(6, Number(heading.localName[1]) + under);
    heading.replaceWith(h(`h${level}`, {}, ...heading.childNodes));
  }
  for (const table of template.content.querySelectorAll("table")) {
    const frame = h("div", { class: "table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return h("div", { class: "md", dir: "auto" }, template.content);
}

/** Lets the keyboard scroll what is wider than its place. To be called once it is laid out. */
export function scrollable(root) {
  for (const wide of root.querySelectorAll("pre, .table")) {
    if (wide.scrollWidth > wide.clientWidth) {
      wide.tabIndex = 0;
      wide.setAttribute("role", "group");
      wide.setAttribute("aria-label", wide.localName === "pre" ? "Code" : "Table");
    }
  }
}

export const capital = (sentence) => sentence.charAt(0).toUpperCase() + sentence.slice(1);
