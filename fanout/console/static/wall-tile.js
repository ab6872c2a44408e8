// One TV: a device of the SDK on a socket of its own, and the screen that shows what it is told.

import { Device } from "/static/vendor/fanout-device.mjs";
import { Cable } from "/static/wall-cable.js";
import { resting, screen } from "/static/wall-content.js";

// Of log lines and of flips: what the details show, and a little more.
const LINES_MAX = 40;
// Plugs that are put back together come back spread over this, as a street of TVs does after a power cut.
const BACK_MS = 1000;
const LINKS = { connecting: "connecting", connected: "on", waiting: "off", ended: "off" };

function part(name) {
  const made = document.createElement("span");
  made.className = name;
  return made;
}

function keep(list, one) {
  list.push(one);
  if (list.length > LINES_MAX) list.shift();
}

export class Tile {
  /** What the SDK said last, oldest first: `{at_ms, entry}`. */
  lines = [];
  /** Every flip that changed this screen: `{campaign, rev, stage, due_ms, late_ms, at_ms}`. */
  flips = [];
  /** Rehearsed activations, which change nothing. */
  rehearsals = [];
  /** Whether it holds a bundle, and which campaign its screen is about. */
  ready = false;
  campaign = null;
  link = "connecting";
  state = { state: "connecting" };
  #campaigns = new Map(); #cable = new Cable(); #known; #parts = {};

  /**
   * @param {{id: string, platform: string, region: string}} who
   * @param {{url: string, originUrl: string, getToken: Function}} options of the SDK
   * @param {(id: string) => {shadow: boolean} | null} known returns what is known of a campaign
   * @param {(tile: Tile, what: string) => void} changed is told of whatever may be seen
   */
  constructor(who, options, known, changed) {
    this.who = who;
    this.#known = known;
    this.changed = changed;
    this.element = this.#made();
    const told = (does) => (event) => { does(event); this.show(); };
    this.device = new Device({
      ...options,
      deviceId: who.id,
      storage: null, // so many TVs would share one small storage, and a page that is loaded anew is a TV that is new
      WebSocket: this.#cable.WebSocket,
      onState: told((event) => { this.state = event; this.link = LINKS[event.state] ?? "off"; }),
      onPrefetched: told((event) => this.#prefetched(event)),
      onActivate: told((event) => this.#activated(event)),
      onRehearse: told((event) => this.#rehearsed(event)),
      onClose: told((event) => { this.#campaigns.delete(event.campaign); }),
      onError: told(() => {}),
      onLog: (entry) => this.#logged(entry),
    });
    this.show();
  }

  get out() { return this.#cable.out; }
  get look() { return this.element.dataset.look; }
  get held() { return this.device.stats().held; }
  get errors() { return Object.values(this.device.stats().errors).reduce((sum, each) => sum + each, 0); }

  start() { this.device.start(); }

  pull() {
    this.#cable.pull();
    this.show();
  }

  /** Put the plug back. A TV is told of that by its system, and has no reason to wait for the end of its backoff. */
  put() {
    this.#cable.put();
    this.show();
    setTimeout(() => {
      if (this.out || this.link === "on") return;
      this.device.close();
      this.device.start();
    }, Math.random() * BACK_MS);
  }

  // --- What the device is told.

  #of(id) {
    if (!this.#campaigns.has(id)) this.#campaigns.set(id, { id, held: null, content: null, stage: null, rev: 0, drill: null });
    return this.#campaigns.get(id);
  }

  #prefetched({ campaign, rev, sha256 }) {
    const of = this.#of(campaign);
    of.held = this.device.content(sha256);
    // What is shown stays until an activation says otherwise; but what only waits may be newer now.
    if (of.stage === null) Object.assign(of, { rev, content: of.held });
  }

  #activated({ campaign, rev, stage, content, due_ms, late_ms }) {
    const of = this.#of(campaign);
    Object.assign(of, { stage, rev, content, drill: null });
    keep(this.flips, { campaign, rev, stage, due_ms, late_ms, at_ms: Date.now() });
    this.changed(this, "flip");
  }

  #rehearsed({ campaign, rev, stage, late_ms }) {
    this.#of(campaign).drill = stage;
    keep(this.rehearsals, { campaign, rev, stage, late_ms, at_ms: Date.now() });
  }

  #logged(entry) {
    keep(this.lines, { at_ms: Date.now(), entry });
    this.changed(this, "log");
  }

  // --- What is seen of it.

  #made() {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "tile";
    element.id = this.who.id;
    for (const name of ["glass", "art", "lights", "shade", "badge", "title", "place", "dot", "said"]) this.#parts[name] = part(name);
    const { glass, ...inner } = this.#parts;
    glass.append(...Object.values(inner));
    element.append(glass);
    this.#parts.place.textContent = `${this.who.platform} · ${this.who.region.toUpperCase()}`;
    element.dataset.platform = this.who.platform;
    // An artwork of its own: two hues and where its light stands, from the digits of its id.
    const seed = [...this.who.id].reduce((sum, each) => (sum * 31 + each.charCodeAt(0)) % 9973, 7);
    const style = { "--hue": (seed * 47) % 360, "--other": (seed * 47 + 40 + (seed % 90)) % 360, "--spot": `${15 + (seed % 70)}%`, "--lean": `${110 + (seed % 60)}deg` };
    for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
    return element;
  }

  // The newest of what it was told to show; else the newest of what it holds, in the stage that it waits in.
  #current() {
    const real = [...this.#campaigns.values()].filter((each) => each.stage !== null || (each.content !== null && this.#known(each.id)?.shadow === false));
    return real.sort((one, other) => (other.stage !== null) - (one.stage !== null) || other.rev - one.rev)[0];
  }

  /** Draw it anew, if anything is new. */
  show() {
    const now = this.#current();
    this.ready = [...this.#campaigns.values()].some((each) => each.held !== null);
    this.campaign = now?.id ?? null;
    const stage = now && (now.stage ?? resting(now.content));
    const shown = stage ? screen(now.content, stage) : { look: "idle", badge: "", title: "", layout: "billboard" };
    const { element } = this;
    const data = { look: shown.look, layout: shown.layout, link: this.out ? "out" : this.link, held: this.ready ? "yes" : "no", drill: this.#drilling() ? "yes" : "no" };
    for (const [name, value] of Object.entries(data)) if (element.dataset[name] !== value) element.dataset[name] = value;
    const texts = { badge: shown.badge, title: shown.title };
    for (const [name, value] of Object.entries(texts)) if (this.#parts[name].textContent !== value) this.#parts[name].textContent = value;
    const words = `${this.who.id}, ${this.who.platform} in ${this.who.region.toUpperCase()}: ${this.words()}`;
    if (words !== this.#parts.said.textContent) this.#parts.said.textContent = words;
    this.changed(this, "look");
  }

  /** Say how it is, in a few words. */
  words() {
    const link = this.out ? "plug pulled" : { on: "connected", off: "offline", connecting: "connecting" }[this.link];
    const what = { idle: "", upcoming: "", live: "live", ended: "replay", other: "showing" }[this.look] ?? "";
    return [link, what || (this.ready ? "ready" : ""), this.#drilling() ? "rehearsing" : ""].filter(Boolean).join(", ");
  }

  // A rehearsal that was taken back to where it began is over.
  #drilling() {
    return [...this.#campaigns.values()].some((each) => each.drill !== null && each.drill !== "upcoming");
  }
}
