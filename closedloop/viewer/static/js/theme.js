// Light or dark: the reader's choice, else the page's default (data-default on <html>), else the system's.
// A plain script in the head, so that the first picture has its colours already.
// Fires "themechange" on document whenever colours change; plots and canvases that hold colours draw again then.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("closedloop.theme");
    } catch {
      return null; // storage is switched off; the page's default holds
    }
  };
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const apply = (theme) => {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else delete root.dataset.theme;
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-label", current() === "dark" ? "Light colours" : "Dark colours");
    if (button) button.title = button.getAttribute("aria-label");
    document.dispatchEvent(new CustomEvent("themechange", { detail: current() }));
  };
  const choose = (theme) => {
    try {
      localStorage.setItem("closedloop.theme", theme);
    } catch {
      // Chosen for this page only.
    }
    apply(theme);
  };
  apply(remembered() || root.dataset.default);
  system.addEventListener("change", () => apply(remembered() || root.dataset.default));
  addEventListener("storage", (event) => {
    if (event.key === "closedloop.theme") apply(event.newValue || root.dataset.default);
  });
  addEventListener("DOMContentLoaded", () => {
    apply(root.dataset.theme);
    document.getElementById("theme")?.addEventListener("click", () => choose(current() === "dark" ? "light" : "dark"));
  });
})();
