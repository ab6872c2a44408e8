// A press, from the button to the word on what became of it. One key a confirmation: whatever is sent again under it
// happens once.

import { clock, local } from "/static/times.js";

// Longer than the API takes to be sure of a publication.
const ANSWER_MS = 12000;
const AGAIN_MS = [500, 8000];

/** A fresh Idempotency-Key. Not randomUUID: browsers have that on https and loopback only. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Say what became of something; return a function that replaces what was said.
 *
 * What was said of the same button before, and is over, goes: its newest word is the one that counts.
 */
export function outcome(kind, words, onStop = null, about = "") {
  const box = document.createElement("div");
  const text = document.createElement("p");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = onStop ? "Stop asking" : "Dismiss";
  button.addEventListener("click", () => { onStop?.(); box.remove(); });
  box.append(text, button);
  const say = (nextKind, nextWords) => {
    box.className = `outcome ${nextKind}`;
    text.textContent = local(nextWords);
    if (nextKind !== "waiting") { onStop = null; button.textContent = "Dismiss"; }
  };
  say(kind, words);
  const region = document.getElementById("outcomes");
  const old = [...region.children].filter((each) => about && each.dataset.about === about);
  for (const each of old) if (!each.classList.contains("waiting")) each.remove();
  box.dataset.about = about;
  // The newest is read and seen; a wall of old ones is neither.
  while (region.children.length > 2) region.firstChild.remove();
  region.append(box);
  return say;
}

/** Call the API as the person who is signed in. Rejects when nothing was heard. */
export async function call(method, path, body, headers = {}) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_MS);
  try {
    const answer = await fetch(path, {
      method,
      signal: abort.signal,
      headers: { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.csrf ?? "", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const told = await answer.json().catch(() => ({ detail: `${answer.status} ${answer.statusText}` }));
    return { ok: answer.ok, status: answer.status, told, retryAfterS: Number(answer.headers.get("Retry-After")) || 0 };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Press a button, and tell what happens until it is known.
 *
 * @param {object} press
 * @param {string} press.what What is being done, for messages: "Retract".
 * @param {string} press.path Of the API.
 * @param {object} press.body
 * @param {string} [press.method]
 * @param {number|null} [press.version] Of the campaign as it was seen; null presses whatever it is now.
 * @param {string} [press.campaign] Who else changed it is looked up there.
 * @returns {Promise<object|null>} The answer, or null if it was given up.
 */
export async function press({ what, path, body, method = "POST", version = null, campaign = "" }) {
  const headers = { "Idempotency-Key": newKey() };
  if (version !== null) headers["If-Match"] = `"${version}"`;
  let stopped = false;
  const say = outcome("waiting", `${what}: sent, waiting for the answer.`, () => { stopped = true; }, path);
  for (let tries = 1; !stopped; tries += 1) {
    let answer = null;
    let why = "nothing heard";
    try {
      answer = await call(method, path, body, headers);
    } catch { /* the next try, under the same key, finds out what became of this one */ }
    if (answer && answer.status !== 503 && answer.status < 502) {
      await conclude(say, what, answer, campaign);
      document.dispatchEvent(new CustomEvent("look-again"));
      return answer;
    }
    if (answer) why = answer.told.detail ?? "no answer";
    say("waiting", `${what}: ${why}; asking again under the same key, so that it happens once (try ${tries + 1}).`);
    const backoff = Math.min(AGAIN_MS[1], AGAIN_MS[0] * 2 ** tries) * (0.5 + Math.random());
    await new Promise((wake) => setTimeout(wake, Math.max(backoff, (answer?.retryAfterS ?? 0) * 1000)));
  }
  outcome("refused", `${what}: no longer asking. Look below whether it happened.`, null, path);
  return null;
}

async function conclude(say, what, { ok, status, told }, campaign) {
  if (ok) {
    const warnings = (told.warnings ?? []).map((each) => ` ${each}`).join("");
    return say("done", `${what}: done${told.rev ? `, revision ${told.rev}` : ""}.${warnings}`);
  }
  if (status === 412) return say("refused", `${what}: ${await whoElse(campaign)} Nothing was done; look again, then press again.`);
  if (status === 401) return say("refused", `${what}: nobody is signed in here any more. Sign in again; nothing was done.`);
  return say("refused", `${what}: refused. ${told.detail ?? told.title}`);
}

async function whoElse(campaign) {
  try {
    const { told } = await call("GET", `/v1/audit?campaign=${encodeURIComponent(campaign)}&count=1`);
    const [last] = told.entries;
    return `somebody else changed it: ${last.by}, ${last.action}, at ${clock(last.at)}.`;
  } catch {
    return "somebody else changed it.";
  }
}
