// A page that keeps up: takes parts from the stream and puts them in place of the old ones.

import { clock, localize } from "/static/times.js";

// The stream speaks once a second. Silence for longer than this is a break that nobody has told us of.
const SILENCE_MS = 5000;
// A room of screens comes back spread over this, not all in one instant.
const BACK_MS = [500, 4000];

export class Live {
  #url; #source = null; #heardAt = Date.now(); #contactAt = Date.now(); #pending = new Map(); #retry = null; #ended = false;

  constructor(url) {
    this.#url = url;
    setInterval(() => this.#watch(), 1000);
    document.addEventListener("focusout", () => setTimeout(() => this.#placeAll(), 0));
    // A hidden tab shows nobody anything; browsers allow few streams to one server.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    document.addEventListener("look-again", () => { this.close(); this.open(); });
  }

  open() {
    if (this.#source || this.#ended) return;
    clearTimeout(this.#retry);
    const source = new EventSource(this.#url);
    this.#source = source;
    this.#contactAt = Date.now();
    source.addEventListener("look", (event) => this.#look(JSON.parse(event.data)));
    source.addEventListener("silent", () => this.#silent());
    source.addEventListener("gone", () => this.#over());
    source.addEventListener("error", () => this.#broken());
  }

  close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#retry);
  }

  #look({ parts, point }) {
    this.#heardAt = this.#contactAt = Date.now();
    this.#say("");
    for (const { id, html } of parts) { this.#pending.set(id, html); }
    this.#placeAll();
    document.dispatchEvent(new CustomEvent("point", { detail: point }));
  }

  #placeAll() {
    for (const [id, html] of this.#pending) {
      const old = document.getElementById(id);
      // Whoever is within a part with the keyboard keeps it; it is replaced when they leave.
      if (!old || old.contains(document.activeElement)) continue;
      const template = document.createElement("template");
      template.innerHTML = html;
      const fresh = template.content.getElementById(id);
      localize(fresh);
      old.replaceWith(fresh);
      this.#pending.delete(id);
    }
  }

  #broken() {
    this.close();
    this.#say(`Connection lost; this is what was known at ${clock(this.#heardAt)}.`, true);
    this.#retry = setTimeout(() => this.open(), BACK_MS[0] + Math.random() * (BACK_MS[1] - BACK_MS[0]));
  }

  #silent() {
    this.#contactAt = Date.now();
    this.#say(`The store does not answer; this is what was known at ${clock(this.#heardAt)}. Devices go on with what they hold.`, true);
  }

  #watch() {
    if (this.#source && !document.hidden && Date.now() - this.#contactAt > SILENCE_MS) this.#broken();
  }

  #over() {
    this.#ended = true;
    this.close();
    this.#say("You are no longer signed in as before, or this is gone. Load the page again.", true);
  }

  #say(words, bad = false) {
    const band = document.getElementById("lost");
    if (band.textContent !== words) band.textContent = words;
    band.hidden = !words;
    const link = document.getElementById("link");
    const state = bad ? "not live" : "live";
    if (link.textContent !== state) link.textContent = state;
    link.classList.toggle("well", !bad);
  }
}
