// What every page does: its theme, its times, and keeping up with what it shows.

import { localize } from "/static/times.js";
import { Live } from "/static/live.js";

const THEMES = ["system", "light", "dark"];

function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const name = () => root.dataset.theme ?? "system";
  const tell = () => { button.textContent = `Theme: ${name()}`; };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(name()) + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* it lasts as long as the page */ }
    document.dispatchEvent(new CustomEvent("theme"));
    tell();
  });
  tell();
}

// A page that cannot keep up looks again by itself; after a random while, so that not all screens come at once.
function again() {
  if (!document.querySelector("[data-again]")) return;
  setTimeout(() => location.reload(), 5000 + Math.random() * 5000);
}

theme();
localize(document);
again();
if (document.body.dataset.stream) new Live(document.body.dataset.stream).open();
