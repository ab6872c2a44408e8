// The form for a campaign: keeps what was typed, shows each stage as it is typed, and puts what the API refuses
// beside the field it is about.

import { blame, clear, fault, found, tell } from "/static/faults.js";
import { press } from "/static/press.js";
import { preview, titled } from "/static/preview.js";

const form = document.getElementById("new");
const { editing } = form.dataset;
const version = Number(form.dataset.version);
const fields = form.elements;
const list = document.getElementById("variants");
const SIMPLE = { badge: ".badge-field", title: ".title-field", text: ".text-field" };
const NAME = /^[a-z0-9][a-z0-9_.:-]{0,63}$/;

const stages = () => fields.stages.value.split(",").map((name) => name.trim()).filter(Boolean);
const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

class Refusal extends Error {
  constructor(element, words) { super(words); this.element = element; }
}

// --- Faults, beside their fields.

function blameAny({ status, told }) {
  // What is refused of a new campaign is its id: another has it.
  if (status === 409 && !editing) told.path = "$.id";
  if (blame(fields, told)) return;
  const box = document.getElementById(told.path?.startsWith("$.variants") ? "fault-variants" : "fault-form");
  box.textContent = told.detail ?? told.title;
  box.scrollIntoView({ block: "center" });
}

/** What is wrong with the form as a whole, beside each field's own limits. */
function wrong() {
  const faults = found(form).filter(([input]) => input.name);
  const named = stages();
  const odd = named.find((name) => !NAME.test(name));
  if (!named.length || odd) faults.push([fields.stages, `${odd ? `stage is '${odd}'` : "there is no stage"}; allowed are ${limit(fields.stages)}, each named as an id is`]);
  const back = fields.retract_stage.value.trim();
  if (back && !named.includes(back)) faults.push([fields.retract_stage, `retract_stage is '${back}'; allowed are ${named.join(", ")}, or nothing`]);
  const attempt = (read) => {
    try { read(); } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      faults.push([refusal.element, refusal.message]);
    }
  };
  for (const box of list.children) {
    attempt(() => readMatch(box.querySelector(".match")));
    for (const area of box.querySelectorAll(box.querySelector(".elsewhere").hidden ? ".content" : ".bundle")) attempt(() => readJson(area));
  }
  return faults;
}

const limit = (input) => input.closest("label").querySelector("small").textContent;

// --- One stage of one variant. The JSON is the truth; the simple fields write three of its members.

function readJson(area) {
  let found;
  try {
    found = JSON.parse(area.value || "{}");
  } catch (problem) {
    throw new Refusal(area, `This is no JSON: ${problem.message}`);
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) throw new Refusal(area, "Send an object: { … }");
  return found;
}

function stageEditor(stage, content) {
  const box = fromTemplate("stage-template");
  box.dataset.stage = stage;
  box.querySelector("h3").textContent = stage;
  const area = box.querySelector(".content");
  const shown = box.querySelector(".preview");
  area.value = JSON.stringify(content, null, 2);
  const show = (content) => { preview(shown, content); box.querySelector(".untitled").hidden = titled(content); };
  const fromArea = () => {
    try {
      const found = readJson(area);
      for (const [name, field] of Object.entries(SIMPLE)) box.querySelector(field).value = typeof found[name] === "string" ? found[name] : "";
      show(found);
      area.removeAttribute("aria-invalid");
      area.closest("label").querySelector(".fault").textContent = "";
    } catch (refusal) {
      fault(area, refusal.message);
    }
  };
  area.addEventListener("input", fromArea);
  for (const [name, field] of Object.entries(SIMPLE)) {
    box.querySelector(field).addEventListener("input", (event) => {
      let found;
      try { found = readJson(area); } catch { return; /* it is said beside the JSON */ }
      if (event.target.value) found[name] = event.target.value; else delete found[name];
      area.value = JSON.stringify(found, null, 2);
      show(found);
    });
  }
  fromArea();
  return box;
}

// --- Variants.

const usual = (stage) => ({ badge: stage.toUpperCase(), title: fields.title.value });

function addVariant(match, bundle, before = null) {
  const box = fromTemplate("variant-template");
  box.querySelector(".match").value = Object.entries(match).map(([name, value]) => `${name}=${value}`).join(", ");
  const content = bundle.stages ?? {};
  if (!bundle.stages) {
    box.querySelector(".elsewhere").hidden = false;
    box.querySelector(".bundle").value = JSON.stringify(bundle, null, 2);
  } else {
    box.querySelector(".stages").append(...stages().map((stage) => stageEditor(stage, content[stage] ?? usual(stage))));
  }
  box.querySelector(".remove").addEventListener("click", () => { box.remove(); number(); });
  list.insertBefore(box, before);
  number();
}

function number() {
  const boxes = [...list.children];
  boxes.forEach((box, index) => {
    box.querySelector("legend").textContent = `Variant ${index + 1}${index === boxes.length - 1 ? ", everyone else" : ""}`;
    box.querySelector(".remove").hidden = boxes.length < 2;
  });
  document.getElementById("add-variant").disabled = boxes.length >= Number(form.dataset.variantsMax);
}

// Stages are typed while their content is there already: what is still named stays as it is.
function restage() {
  for (const box of list.children) {
    if (!box.querySelector(".elsewhere").hidden) continue;
    const holder = box.querySelector(".stages");
    const old = new Map([...holder.children].map((each) => [each.dataset.stage, each]));
    holder.replaceChildren(...stages().map((stage) => old.get(stage) ?? stageEditor(stage, usual(stage))));
  }
}

function readMatch(input) {
  const pairs = input.value.split(",").map((pair) => pair.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((pair) => {
    const [name, ...value] = pair.split("=");
    if (!value.length) throw new Refusal(input, `${pair} has no value; write name=value, with commas between`);
    return [name.trim(), value.join("=").trim()];
  }));
}

function readVariant(box) {
  const elsewhere = !box.querySelector(".elsewhere").hidden;
  const bundle = elsewhere
    ? readJson(box.querySelector(".bundle"))
    : { stages: Object.fromEntries([...box.querySelectorAll(".stage-edit")].map((each) => [each.dataset.stage, readJson(each.querySelector(".content"))])) };
  return { match: readMatch(box.querySelector(".match")), bundle };
}

// --- The whole.

function fill(given) {
  for (const name of ["id", "title", "topic", "miss", "retract_stage", "origin_per_s"]) if (given[name] !== undefined && given[name] !== null) fields[name].value = given[name];
  if (editing) fields.id.value = editing;
  if (Array.isArray(given.stages)) fields.stages.value = given.stages.join(", ");
  if (typeof given.threshold === "number") fields.threshold.value = Number((given.threshold * 100).toFixed(6));
  fields.shadow.checked = Boolean(given.shadow);
  fields.two_keys.checked = Boolean(given.two_keys);
  list.replaceChildren();
  for (const { match, bundle } of given.variants ?? []) addVariant(match ?? {}, bundle ?? {});
  if (!list.children.length) addVariant({}, { stages: {} });
}

function read() {
  return {
    id: fields.id.value.trim(),
    title: fields.title.value,
    topic: fields.topic.value.trim(),
    stages: stages(),
    variants: [...list.children].map(readVariant),
    threshold: Number(fields.threshold.value) / 100,
    miss: fields.miss.value,
    shadow: fields.shadow.checked,
    two_keys: fields.two_keys.checked,
    retract_stage: fields.retract_stage.value.trim() || null,
    origin_per_s: Number(fields.origin_per_s.value),
  };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!tell(form, wrong())) return;
  const body = read();
  const save = document.getElementById("save");
  save.disabled = true;
  const answer = await press(editing
    ? { what: "Save", method: "PUT", path: `/v1/campaigns/${encodeURIComponent(editing)}`, body, version, campaign: editing }
    : { what: "Create", path: "/v1/campaigns", body });
  save.disabled = false;
  if (answer?.ok) location.assign(`/campaigns/${encodeURIComponent(answer.told.id)}`);
  else if (answer) blameAny(answer);
});

document.getElementById("file").addEventListener("change", async (event) => {
  clear(form);
  const [file] = event.target.files;
  if (!file) return;
  const say = document.getElementById("fault-file");
  try {
    const answer = await fetch("/console/read", { method: "POST", body: file, headers: { "X-CSRF-Token": document.body.dataset.csrf ?? "" } });
    const told = await answer.json();
    if (answer.ok) fill(told); else say.textContent = told.detail;
  } catch {
    say.textContent = "Nothing heard from the server; choose the file again.";
  }
  event.target.value = "";
});

fields.stages.addEventListener("change", restage);

// Until somebody writes another, each stage of a new campaign is titled as the campaign is.
let usualTitle = "";
if (!form.dataset.given) {
  fields.title.addEventListener("input", () => {
    for (const each of list.querySelectorAll(".title-field")) {
      if (each.value !== usualTitle) continue;
      each.value = fields.title.value;
      each.dispatchEvent(new Event("input"));
    }
    usualTitle = fields.title.value;
  });
}
document.getElementById("add-variant").addEventListener("click", () => addVariant({}, { stages: {} }, list.lastElementChild));

const given = form.dataset.given ? JSON.parse(form.dataset.given) : {};
if (!editing && given.id) given.id = `${given.id}-copy`.slice(0, fields.id.maxLength);
fill(given);
