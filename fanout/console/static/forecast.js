// The forecast beside the button: asked again whenever the window, the lead or the share is moved.

import { local } from "/static/times.js";

const QUIET_MS = 200;
// The fleet changes while nobody types.
const STALE_MS = 3000;

const count = (number) => Math.round(number).toLocaleString();
const time = (s) => (s === null ? "never" : `${s.toLocaleString(undefined, { maximumFractionDigits: 1 })} s`);

const tenths = (s) => Math.max(0, Math.ceil(s * 10 - 1e-9)) / 10;

function entry(name, words) {
  const box = document.createElement("div");
  const term = document.createElement("dt");
  term.textContent = name;
  const detail = document.createElement("dd");
  detail.append(words);
  box.append(term, detail);
  return box;
}

export class Forecast {
  /** The newest answer, null before the first. */
  found = null;
  #element; #form; #slide; #path; #told; #timer = null; #askedAt = 0; #abort = null;

  constructor(element, form, slide, path, told) {
    this.#element = element; this.#form = form; this.#slide = slide; this.#path = path; this.#told = told;
    slide.addEventListener("input", () => {
      form.elements.window_s.value = slide.value;
      form.dispatchEvent(new Event("input", { bubbles: true }));
    });
    form.addEventListener("input", () => {
      slide.value = form.elements.window_s.value;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.ask(), QUIET_MS);
    });
  }

  /** Take note that the fleet was looked at. */
  fleet() {
    if (Date.now() - this.#askedAt > STALE_MS) this.ask();
  }

  async ask() {
    const { window_s, in_s, share } = this.#form.elements;
    const asked = new URLSearchParams({ window_s: window_s.value || "0", in_s: in_s.value || "0", share: String(Number(share.value) / 100) });
    this.#askedAt = Date.now();
    this.#abort?.abort();
    this.#abort = new AbortController();
    try {
      const answer = await fetch(`${this.#path}/forecast?${asked}`, { signal: this.#abort.signal });
      const told = await answer.json();
      if (answer.ok) this.#show(told); else this.#say(told.detail);
    } catch (fault) {
      if (fault.name !== "AbortError") this.#say("No forecast now: nothing heard.");
    }
  }

  #say(words) {
    const line = document.createElement("p");
    line.className = "warn";
    line.textContent = words;
    this.#element.replaceChildren(line);
  }

  #show(found) {
    this.found = found;
    const list = document.createElement("dl");
    const peak = `${count(found.origin_per_s_peak)} /s of ${count(found.origin_per_s)} /s allowed`;
    const second = document.createElement("dl");
    second.className = "pair";
    list.append(
      entry("50 % after", time(found.t50_s)),
      entry("99 % after", time(found.t99_s)),
      entry("All after", time(found.t100_s)),
    );
    second.append(
      entry("Origin, at its peak", peak),
      entry("Smallest safe window", this.#safe(found)),
    );
    this.#element.replaceChildren(list, second);
    if (found.warnings.length) {
      const warnings = document.createElement("ul");
      warnings.append(...found.warnings.map((words) => Object.assign(document.createElement("li"), { textContent: local(words) })));
      this.#element.append(warnings);
    }
    this.#told(found);
  }

  #safe(found) {
    const box = document.createElement("span");
    // Up to the next tenth: what is shown, and used, must not be less than what is safe.
    box.append(`${time(tenths(found.window_s_safe))} `);
    if (found.window_s < found.window_s_safe) {
      const use = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Use it" });
      use.addEventListener("click", () => {
        this.#form.elements.window_s.value = String(tenths(found.window_s_safe));
        this.#form.dispatchEvent(new Event("input", { bubbles: true }));
      });
      box.append(use);
    }
    return box;
  }
}
