// The form for a campaign: keeps what was typed, shows each stage as it is typed, and puts what the API refuses
// beside the field it is about.

import { press } from "/static/press.js";
import { preview } from "/static/preview.js";

const form = document.getElementById("new");
const { editing } = form.dataset;
const version = Number(form.dataset.version);
const fields = form.elements;
const list = document.getElementById("variants");
const SIMPLE = { badge: ".badge-field", title: ".title-field", text: ".text-field" };
// How the API's refusals begin, and the field each is about.
const ABOUT = [
  [/^id /, "id"], [/^campaign \S+ exists/, "id"], [/^title /, "title"], [/^topic /, "topic"],
  [/^(\d+ stages|stages |stage )/, "stages"], [/^threshold /, "threshold"], [/^origin_per_s /, "origin_per_s"],
  [/(variant|bundle)/, "variants"],
];

const stages = () => fields.stages.value.split(",").map((name) => name.trim()).filter(Boolean);
const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

class Refusal extends Error {
  constructor(element, words) { super(words); this.element = element; }
}

// --- Faults, beside their fields.

function clear() {
  for (const element of form.querySelectorAll(".fault")) element.textContent = "";
  for (const element of form.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

function fault(input, words) {
  input.setAttribute("aria-invalid", "true");
  input.closest("label").querySelector(".fault").textContent = words;
  input.focus();
}

function blame(told) {
  const words = told.detail ?? told.title;
  const place = told.path?.match(/^\$\.([a-z_]+)/)?.[1];
  const name = place ?? ABOUT.find(([pattern]) => pattern.test(words))?.[1];
  if (name && name !== "variants" && fields[name]) return fault(fields[name], words);
  const box = document.getElementById(name === "variants" ? "fault-variants" : "fault-form");
  box.textContent = words;
  return box.scrollIntoView({ block: "center" });
}

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
  const fromArea = () => {
    try {
      const found = readJson(area);
      for (const [name, field] of Object.entries(SIMPLE)) box.querySelector(field).value = typeof found[name] === "string" ? found[name] : "";
      preview(shown, found);
      area.removeAttribute("aria-invalid");
      area.closest("label").querySelector(".fault").textContent = "";
    } catch (refusal) {
      area.setAttribute("aria-invalid", "true");
      area.closest("label").querySelector(".fault").textContent = refusal.message;
    }
  };
  area.addEventListener("input", fromArea);
  for (const [name, field] of Object.entries(SIMPLE)) {
    box.querySelector(field).addEventListener("input", (event) => {
      let found;
      try { found = readJson(area); } catch { return; /* it is said beside the JSON */ }
      if (event.target.value) found[name] = event.target.value; else delete found[name];
      area.value = JSON.stringify(found, null, 2);
      preview(shown, found);
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
  clear();
  let body;
  try {
    body = read();
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    fault(refusal.element, refusal.message);
    return;
  }
  const save = document.getElementById("save");
  save.disabled = true;
  const answer = await press(editing
    ? { what: "Save", method: "PUT", path: `/v1/campaigns/${encodeURIComponent(editing)}`, body, version, campaign: editing }
    : { what: "Create", path: "/v1/campaigns", body });
  save.disabled = false;
  if (answer?.ok) location.assign(`/campaigns/${encodeURIComponent(answer.told.id)}`);
  else if (answer) blame(answer.told);
});

document.getElementById("file").addEventListener("change", async (event) => {
  clear();
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
document.getElementById("add-variant").addEventListener("click", () => addVariant({}, { stages: {} }, list.lastElementChild));

const given = form.dataset.given ? JSON.parse(form.dataset.given) : {};
if (!editing && given.id) given.id = `${given.id}-copy`.slice(0, fields.id.maxLength);
fill(given);
