// Before the first paint, so that a chosen theme does not flash.
{
  const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const theme = stored("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  if (stored("side") === "hidden") document.documentElement.dataset.side = "hidden";
}
