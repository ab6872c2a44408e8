// What is wrong with what was typed, said beside its field: all of it at once, by the page or by the API.

import { local } from "/static/times.js";

/** Say nothing of a form any more. */
export function clear(form) {
  for (const element of form.querySelectorAll(".fault")) element.textContent = "";
  for (const element of form.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

/** Say what is wrong beside a field; whoever mends it is told no longer. */
export function fault(input, words) {
  const said = input.closest("label").querySelector(".fault");
  input.setAttribute("aria-invalid", "true");
  said.textContent = local(words);
  input.addEventListener("input", () => { input.removeAttribute("aria-invalid"); said.textContent = ""; }, { once: true });
}

/** Return what the fields' own limits find wrong, as pairs of a field and words. */
export function found(form) {
  return [...form.elements].filter((input) => input.willValidate && !input.validity.valid && input.closest("label")).map((input) => {
    const limit = input.closest("label").querySelector("small")?.textContent;
    const sent = input.validity.badInput ? "no number" : `'${input.value}'`;
    return [input, limit ? `${input.name} is ${sent}; allowed are ${limit}` : input.validationMessage];
  });
}

/** Say all of them; tell whether there are none. */
export function tell(form, faults) {
  clear(form);
  for (const [input, words] of faults) fault(input, words);
  faults[0]?.[0].focus();
  return !faults.length;
}

/** Say what the API refuses beside the field that it names; tell whether that is one of these. */
export function blame(fields, told) {
  const input = fields[told.path?.match(/^\$\.([a-z_]+)/)?.[1]];
  if (!input?.closest?.("label")?.querySelector(".fault")) return false;
  fault(input, told.detail ?? told.title);
  input.focus();
  return true;
}
