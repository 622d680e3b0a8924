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

/** From light to dark or back, whether it is so by choice or by the system. */
export function switchTheme() {
  const theme = setting("theme");
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  set("theme", dark ? "light" : "dark");
}

function showTheme() {
  const theme = setting("theme");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
