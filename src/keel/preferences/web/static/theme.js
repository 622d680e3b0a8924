// Runs before the first paint, so that a chosen theme does not flash. Not a module for that reason.
{
  const chosen = localStorage.getItem("keel.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
