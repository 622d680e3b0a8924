/** What somebody likes on this device, kept in localStorage. */

const DEFAULTS = { theme: "auto", confirm: "off", keys: "on", raw: "off", guidelines: "0" };

export function setting(name) {
  return localStorage.getItem(`keel.${name}`) ?? DEFAULTS[name];
}

export function set(name, value) {
  localStorage.setItem(`keel.${name}`, value);
  if (name === "theme") showTheme();
}

export function isOn(name) {
  return setting(name) === "on";
}

export function toggle(name) {
  set(name, isOn(name) ? "off" : "on");
  return isOn(name);
}

/** Whether the page is dark now, by choice or by the system. */
export function isDark() {
  const theme = setting("theme");
  return theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
}

function showTheme() {
  const theme = setting("theme");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
