// The wall: makes the devices, counts them, and gives a person plugs to pull. What each device does is the SDK's.

import { Campaigns } from "/static/wall-campaigns.js";
import { Curve } from "/static/wall-curve.js";
import { Details } from "/static/wall-details.js";
import { Grid } from "/static/wall-grid.js";
import { Tile } from "/static/wall-tile.js";
import { Turns } from "/static/wall-turns.js";

// A browser that opens everything in one instant stands still; so does the eye.
const START_EVERY_MS = 12;
const PULL = 10;

const found = (id) => document.getElementById(id);
const write = (id, text) => { const at = found(id); if (at.textContent !== String(text)) at.textContent = text; };
const { gateway, devices } = JSON.parse(document.body.dataset.config);

async function token(id) {
  const answer = await fetch(`/wall/tokens?device=${encodeURIComponent(id)}`);
  if (!answer.ok) throw new Error(`no token: HTTP ${answer.status}`);
  return (await answer.json()).token;
}

// --- The devices.

const campaigns = new Campaigns(() => tiles.forEach((tile) => tile.show()));
const activation = (id, rev) => campaigns.activation(id, rev);
const curve = new Curve(found("curve"), found("curve-words"), devices.length);
const details = new Details(activation);
let due = false;

function changed(tile, what) {
  details.changed(tile);
  if (what === "log") return;
  if (what === "flip") {
    const flip = tile.flips.at(-1);
    turns.turn(tile.element, flip.stage);
    curve.flip(tile.who.id, flip, () => activation(flip.campaign, flip.rev));
  }
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; count(); });
}

const tiles = devices.map((who) => new Tile(who, { url: gateway, originUrl: location.origin, getToken: () => token(who.id) }, (id) => campaigns.of(id), changed));
const grid = new Grid(found("grid"), tiles.map((tile) => tile.element));
const turns = new Turns(found("turns"), (tile) => grid.place(tile));
tiles.forEach((tile, index) => setTimeout(() => tile.start(), index * START_EVERY_MS));

// --- The counts, and what they add up to.

function count() {
  const on = tiles.filter((tile) => tile.link === "on").length;
  const looks = (look) => tiles.filter((tile) => tile.look === look).length;
  const live = looks("live");
  const ended = looks("ended");
  const replay = ended > live;
  write("count-on", on);
  write("count-off", tiles.filter((tile) => tile.link === "off" || tile.out).length);
  write("count-ready", tiles.filter((tile) => tile.ready).length);
  write("count-live", replay ? ended : live);
  write("live-name", replay ? "replay" : "live");
  found("plug").disabled = !tiles.some((tile) => tile.out);
  found("pull").disabled = tiles.every((tile) => tile.out);
  write("phase", phase(on, live, ended));
  title();
}

// The campaign that most screens are about, those that are live before all others: a TV that was away may still wait for
// another event.
function title() {
  const live = tiles.filter((tile) => tile.look === "live");
  const votes = new Map();
  for (const { campaign } of live.length ? live : tiles) if (campaign) votes.set(campaign, (votes.get(campaign) ?? 0) + 1);
  const shown = [...votes].sort((one, other) => other[1] - one[1])[0]?.[0];
  const told = shown && campaigns.of(shown);
  if (!told) return;
  write("title", told.title);
  found("room").href = `/campaigns/${encodeURIComponent(told.id)}`;
  document.title = `${told.title} · the wall · fanout`;
}

function phase(on, live, ended) {
  const all = tiles.length;
  const ready = tiles.filter((tile) => tile.ready).length;
  if (tiles.some((tile) => tile.element.dataset.drill === "yes")) return "A rehearsal: outlined, and no screen changes";
  if (live === all) return `All ${all} are LIVE, each from its own cache`;
  if (live) return `${live} of ${all} are LIVE, each at its own slot`;
  if (ended) return `${ended} of ${all} show the replay`;
  if (ready === all) return `All ${all} hold what they will show; nobody has to be asked`;
  if (ready) return `${ready} of ${all} hold what they will show`;
  return on === all ? `${all} devices, each on a socket of its own` : `${on} of ${all} devices have connected`;
}

// --- What a person does.

const byElement = (target) => tiles.find((tile) => tile.element === target.closest(".tile"));

found("grid").addEventListener("click", (event) => {
  const tile = byElement(event.target);
  if (tile) details.open(tile);
});

found("grid").addEventListener("keydown", (event) => {
  const tile = byElement(event.target);
  if (!tile || event.key.toLowerCase() !== "p" || event.ctrlKey || event.metaKey || event.altKey) return;
  details.toggle(tile);
  write("told", `${tile.who.id}: ${tile.words()}`);
});

found("pull").addEventListener("click", () => {
  const left = tiles.filter((tile) => !tile.out);
  for (let pulled = 0; pulled < PULL && left.length; pulled += 1) left.splice(Math.floor(Math.random() * left.length), 1)[0].pull();
  write("told", `${tiles.filter((tile) => tile.out).length} plugs are pulled`);
});

found("plug").addEventListener("click", () => {
  for (const tile of tiles) if (tile.out) tile.put();
  write("told", "all plugs are back");
});

// For whoever wants to look from outside: every device as plain values.
window.wall = {
  tiles,
  look: () => tiles.map((tile) => ({
    id: tile.who.id, link: tile.link, out: tile.out, ready: tile.ready, look: tile.look, errors: tile.errors,
    drill: tile.element.dataset.drill === "yes", flips: tile.flips, rehearsals: tile.rehearsals,
  })),
};
count();
