// What is behind one TV: who it is, when its slot is, what it holds, what its SDK says, and its plug.

import { slotMs } from "/static/vendor/fanout-device.mjs";

const LINES_SHOWN = 14;
const TEXT_CHARS_MAX = 300;

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const count = (number) => number.toLocaleString("en");
const clock = (at_ms) => new Date(at_ms).toISOString().slice(11, 23);
const found = (id) => document.getElementById(id);

export class Details {
  #tile = null; #due = false; #window = null; #activation;

  /** @param {(campaign: string, rev: number) => Promise<{at: number, window_ms: number} | null>} activation */
  constructor(activation) {
    this.#activation = activation;
    found("details-close").addEventListener("click", () => this.close());
    found("details-plug").addEventListener("click", () => this.toggle(this.#tile));
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && this.#tile) this.close(); });
  }

  open(tile) {
    this.#tile?.element.removeAttribute("aria-current");
    this.#tile = tile;
    tile.element.setAttribute("aria-current", "true");
    found("details").hidden = false;
    this.#draw();
    found("details-close").focus();
  }

  close() {
    const tile = this.#tile;
    this.#tile = null;
    found("details").hidden = true;
    tile?.element.removeAttribute("aria-current");
    tile?.element.focus();
  }

  /** Pull a plug, or put it back. */
  toggle(tile) {
    if (tile.out) tile.put(); else tile.pull();
  }

  /** Draw anew if this is the one that is shown; at most once a frame. */
  changed(tile) {
    if (!tile || tile !== this.#tile || this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => { this.#due = false; if (this.#tile) this.#draw(); });
  }

  #draw() {
    const tile = this.#tile;
    found("details-id").textContent = tile.who.id;
    found("details-plug").textContent = tile.out ? "Put it back" : "Pull the plug";
    found("details-facts").replaceChildren(...this.#facts(tile).flatMap(([name, text]) => {
      const group = document.createElement("div");
      group.append(element("dt", name), element("dd", text));
      return group;
    }));
    found("details-log").replaceChildren(...tile.lines.slice(-LINES_SHOWN).reverse().map(({ at_ms, entry }) => {
      const { at: _, event, ...rest } = entry;
      const line = element("li", "");
      const more = Object.keys(rest).length ? JSON.stringify(rest).slice(0, TEXT_CHARS_MAX) : "";
      line.append(element("time", clock(at_ms)), element("b", String(event ?? "")), element("span", more));
      return line;
    }));
  }

  #facts(tile) {
    const held = tile.held;
    const flip = tile.flips.at(-1);
    return [
      ["is", `${tile.who.platform}, ${tile.who.region}`],
      ["now", tile.words() + (tile.state.retry_in_ms ? `, tries again within ${Math.ceil(tile.state.retry_in_ms / 1000)} s` : "")],
      ["holds", held.length ? held.map((each) => `${each.slice(0, 12)}…`).join(", ") : "nothing yet"],
      ["slot", this.#slot(tile, flip)],
      ...(tile.errors ? [["errors", `${tile.errors}, in the log`]] : []),
      ["last flip", flip ? `${flip.stage.toUpperCase()} at ${clock(flip.at_ms)} UTC, ${Math.round(flip.late_ms)} ms late` : "none"],
    ];
  }

  // The slot is the device's own affair, and anybody's sum: from its id, the revision and the window.
  #slot(tile, flip) {
    if (!flip) return "no activation yet";
    if (this.#window?.rev !== flip.rev) {
      this.#activation(flip.campaign, flip.rev).then((told) => {
        if (!told || this.#window?.rev === told.rev) return;
        this.#window = told;
        this.changed(this.#tile);
      });
      return "asking for the window";
    }
    const { rev, window_ms } = this.#window;
    return `${count(slotMs(tile.who.id, rev, window_ms))} ms into a window of ${count(window_ms)} ms`;
  }
}
