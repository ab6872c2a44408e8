// The page of one campaign: what the buttons send, what they say they will do, and the curve.

import { Curve } from "/static/curve.js";
import { blame, clear, fault, found, tell } from "/static/faults.js";
import { Forecast } from "/static/forecast.js";
import { hold } from "/static/hold.js";
import { outcome, press } from "/static/press.js";
import { preview } from "/static/preview.js";
import { fromField, toField } from "/static/times.js";

const root = document.getElementById("campaign");
const id = root.dataset.id;
const rehearsal = root.dataset.rehearsal === "yes";
const path = `/v1/campaigns/${encodeURIComponent(id)}`;
let point = JSON.parse(root.dataset.point);

const find = (name) => document.getElementById(name);
const value = (form, name) => find(form).elements[name].value;
const seconds = (form, name) => Number(value(form, name) || 0);
const count = (number) => Math.round(number).toLocaleString();
const devices = (number) => `${count(number)} device${Math.round(number) === 1 ? "" : "s"}`;

const curve = new Curve(find("curve"), find("curve-words"), path, rehearsal);
const forecast = new Forecast(find("forecast"), find("live-form"), find("window-slide"), path, (found) => {
  curve.expect(found);
  name();
});

// --- What the buttons say.

function name() {
  const stage = value("live-form", "stage").toUpperCase();
  const window_s = seconds("live-form", "window_s");
  const over = window_s > 0 ? ` over ${window_s} s` : ", all at once";
  const many = forecast.found ? devices(forecast.found.devices) : "the fleet";
  find("go").querySelector(".label").textContent = `${rehearsal ? "Rehearse" : "Show"} ${stage} on ${many}${over}`;
  const to = point.retract_to ? ` to ${point.retract_to.toUpperCase()}` : "";
  label("retract", `${rehearsal ? "Retract the rehearsal" : "Retract"}${to} now`);
  const prefetch_s = seconds("prefetch-form", "window_s");
  label("prefetch", `Prefetch ${devices(point.reachable)} over ${prefetch_s} s`);
}

function label(button, words) {
  const element = document.querySelector(`[data-press="${button}"]`);
  if (element && element.textContent !== words) element.textContent = words;
}

function allow() {
  for (const [button, why] of Object.entries(point.why)) {
    const element = document.querySelector(`[data-press="${button}"]`);
    if (!element) continue;
    element.disabled = Boolean(why);
    const told = document.querySelector(`[data-why="${button}"]`);
    if (told.textContent !== why) told.textContent = why;
  }
}

// --- What they send. The version is that of the campaign as it was seen when the press began.

const FORMS = { activate: "live-form", prefetch: "prefetch-form", move: "move-form", schedule: "schedule-form" };

async function send(button, what, body, version = point.version) {
  const answer = await press({ what, path: `${path}/${button}`, body, version, campaign: id });
  const form = FORMS[button];
  if (form && answer) {
    clear(find(form));
    // A reason is written where going live is forced, outside of its form.
    if (!answer.ok) blame({ reason: find("force-reason"), ...named(find(form)) }, answer.told);
  }
  return answer;
}

const named = (form) => Object.fromEntries([...form.elements].filter((each) => each.name).map((each) => [each.name, each]));
const valid = (form) => tell(find(form), found(find(form)));
const refused = (button, words) => outcome("refused", words, null, `${path}/${button}`);

let seen = null;

async function goLive() {
  if (!valid("live-form")) return;
  const share = seconds("live-form", "share") / 100;
  const body = { stage: value("live-form", "stage"), window_s: seconds("live-form", "window_s"), in_s: seconds("live-form", "in_s"), share };
  if (find("force-on").checked && !find("force").hidden) {
    body.force = true;
    body.reason = find("force-reason").value.trim();
    if (!body.reason) {
      refused("activate", "Not sent: going live although too few devices are ready needs a written reason.");
      fault(find("force-reason"), "Say why: it is kept with the activation.");
      find("force-reason").focus();
      return;
    }
  }
  const answer = await send("activate", seen.words, body, seen.version);
  if (answer?.ok) { find("force").hidden = true; find("force-on").checked = false; }
  if (answer?.status === 409 && answer.told.type?.endsWith(":gate")) {
    find("force").hidden = false;
    find("force-on").focus();
  }
}

const early = (button) => () => refused(button, "Let go too early: nothing was sent. Hold it until the ring is full.");
const look = (button) => () => { seen = { version: point.version, words: button.querySelector(".label").textContent }; };
hold(find("go"), look(find("go")), goLive, early("activate"));
hold(find("close"), look(find("close")), () => send("close", "Close", {}, seen.version), early("close"));

const BODIES = {
  prefetch: () => valid("prefetch-form") && { window_s: seconds("prefetch-form", "window_s") },
  cancel: () => ({}),
  approve: () => ({}),
  unschedule: () => ({}),
  move: () => valid("move-form") && { at: fromField(value("move-form", "at")) },
  schedule: () => valid("schedule-form") && plan(),
};

function plan() {
  const prefetch_at = fromField(value("schedule-form", "prefetch_at"));
  const timed = Number.isNaN(prefetch_at) ? {} : { prefetch_at, prefetch_window_s: seconds("schedule-form", "prefetch_window_s") };
  return {
    stage: value("schedule-form", "stage"),
    at: fromField(value("schedule-form", "at")),
    window_s: seconds("schedule-form", "window_s"),
    arm_ahead_s: seconds("schedule-form", "arm_ahead_s"),
    ...timed,
  };
}

for (const [button, body] of Object.entries(BODIES)) {
  const element = document.querySelector(`[data-press="${button}"]`);
  element?.addEventListener("click", () => {
    const asked = body();
    if (asked) send(button, element.textContent, asked);
  });
}

// Taking back is right whatever somebody else has changed meanwhile, so it asks for no version.
document.querySelector('[data-press="retract"]').addEventListener("click", (event) => {
  const reason = find("retract-reason").value.trim() || "retracted from the console";
  send("retract", event.currentTarget.textContent, { reason }, null);
});

for (const button of document.querySelectorAll("[data-nudge]")) {
  button.addEventListener("click", () => {
    const field = find("move-form").elements.at;
    const from = field.value ? fromField(field.value) : eventAt();
    field.value = toField(from + Number(button.dataset.nudge) * 60000);
  });
}

function eventAt() {
  const planned = document.querySelector("#campaign-plan [data-at]");
  if (planned) return Number(planned.dataset.at);
  return point.phase === "armed" && point.activation ? point.activation.at : Date.now();
}

// --- Keeping up.

// Seen in a tab that is in the background; a rehearsal says so first of all.
const title = document.title.replace(/^REHEARSAL · /, "");

function titled() {
  document.title = `${rehearsal ? "REHEARSAL · " : ""}${point.phase} · ${title}`;
}

document.addEventListener("point", (event) => {
  const before = point;
  point = event.detail;
  // The stage that is shown now is hardly the one to be shown next.
  if (before.next_stage !== point.next_stage) find("live-form").elements.stage.value = point.next_stage;
  if (before.phase !== point.phase) titled();
  allow();
  name();
  forecast.fleet();
  curve.point(point);
});
for (const form of ["live-form", "prefetch-form"]) {
  find(form).addEventListener("input", name);
  find(form).addEventListener("submit", (event) => event.preventDefault());
}
for (const form of ["move-form", "schedule-form"]) find(form).addEventListener("submit", (event) => event.preventDefault());
for (const element of document.querySelectorAll("[data-preview]")) preview(element, JSON.parse(element.dataset.preview));

find("move-form").elements.at.value = toField(eventAt());
if (!find("schedule-form").elements.at.value) find("schedule-form").elements.at.value = toField(Date.now() + 3600000);
titled();
allow();
name();
curve.point(point);
forecast.ask();
