// What a device takes for a message, and that nothing else gets past `check`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { check, decode, MESSAGE_CHARS_MAX, WireError } from "../../src/wire.js";
import { seeded } from "./seeded.mjs";

const SHA = "ba9c5a45fd6c75ea6f16fd460620f9358bca98f5dcf8ea96d3368e8cdeefe6ec";
const MESSAGES = {
  welcome: { t: "welcome", session: "s", now: 1, beacon_s: 2.5, reconnect: { base_ms: 500, cap_ms: 20000 }, state: [] },
  prefetch: { t: "prefetch", campaign: "c", rev: 1, bundle: { sha256: SHA, bytes: 9 }, from: 1, window_ms: 2, shadow: false },
  activate: {
    t: "activate", campaign: "c", rev: 1, stage: "live", bundle: SHA, at: 3, window_ms: 0,
    share: 0.5, miss: "silent", shadow: true,
  },
  cancel: { t: "cancel", campaign: "c", rev: 2 },
  close: { t: "close", campaign: "c", rev: 3 },
  beacon: { t: "beacon", now: 5, rev: 4 },
  reconnect: { t: "reconnect", within_ms: 10 },
};
const OPTIONAL = ["state", "share", "miss", "shadow"];

test("a message that is right comes back whole, and is a new object", () => {
  for (const message of Object.values(MESSAGES)) {
    assert.deepEqual(check(message), message);
    assert.notEqual(check(message), message);
  }
});

test("each field that is missing, null or of another kind is refused, unless it may be left out", () => {
  const wrong = [null, undefined, -1, 1.5, 2 ** 53, NaN, Infinity, "", "x", "1", true, [], {}, [1], { t: "close" }, 10n, () => 1, { valueOf: 1, toString: 1 }, Object.create(null)];
  for (const [t, message] of Object.entries(MESSAGES)) {
    for (const field of Object.keys(message)) {
      const { [field]: right, ...rest } = message;
      if (OPTIONAL.includes(field)) assert.ok(field in check(rest), `${t} without ${field}`);
      else assert.throws(() => check(rest), WireError, `${t} without ${field}`);
      for (const value of wrong) {
        const said = { ...message, [field]: value };
        const where = `${t}.${field} = a ${typeof value}`;
        if (field === "t" && typeof value === "string") {
          assert.equal(check(said), null, where);
          continue;
        }
        let got;
        try {
          got = check(said);
        } catch (error) {
          assert.ok(error instanceof WireError && error instanceof Error && error.message, where);
          continue;
        }
        // Taken: then it is of the kind of the right one.
        if (value === undefined) assert.ok(OPTIONAL.includes(field), where);
        else assert.equal(Array.isArray(got[field]) ? "array" : typeof got[field], Array.isArray(right) ? "array" : typeof right, where);
        if (typeof value === "number") assert.ok(value >= 0 && Number.isFinite(value), where);
      }
    }
  }
});

test("the limits of docs/protocol.md are kept to the last one", () => {
  const taken = (t, fields) => check({ ...MESSAGES[t], ...fields });
  const refused = (t, fields) => assert.throws(() => taken(t, fields), WireError, JSON.stringify(fields));
  assert.equal(taken("beacon", { rev: 2 ** 53 - 1 }).rev, 2 ** 53 - 1);
  refused("beacon", { rev: 2 ** 53 });
  assert.equal(taken("close", { campaign: "c".repeat(64) }).campaign.length, 64);
  refused("close", { campaign: "c".repeat(65) });
  for (const share of [0, 1, 2 ** -32]) assert.equal(taken("activate", { share }).share, share);
  for (const share of [-0.1, 1.1, "1", null]) refused("activate", { share });
  for (const bundle of [SHA.toUpperCase(), SHA.slice(1), `${SHA}0`, `${SHA}\n`, `../${SHA.slice(3)}`]) {
    refused("activate", { bundle });
    refused("prefetch", { bundle: { sha256: bundle, bytes: 1 } });
  }
  for (const miss of ["fetch", "generic", "silent"]) assert.equal(taken("activate", { miss }).miss, miss);
  for (const miss of ["", "Fetch", "toString", 1]) refused("activate", { miss });
});

test("an optional field without a value may be null", () => {
  const bundle = { sha256: SHA, bytes: 9, url: null, inline: null };
  assert.deepEqual(check({ ...MESSAGES.prefetch, bundle }).bundle, { sha256: SHA, bytes: 9 });
  assert.deepEqual(check({ ...MESSAGES.prefetch, bundle: { ...bundle, url: "/x", inline: "" } }).bundle, {
    sha256: SHA, bytes: 9, url: "/x", inline: "",
  });
});

test("a welcome may bring types of a later version: they are ignored, what is known is taken", () => {
  const state = [{ t: "applause" }, MESSAGES.close, MESSAGES.beacon, MESSAGES.activate];
  assert.deepEqual(check({ ...MESSAGES.welcome, state }).state, [MESSAGES.close, MESSAGES.activate]);
  for (const told of [null, 7, {}, { t: "close" }, [MESSAGES.close]]) {
    assert.throws(() => check({ ...MESSAGES.welcome, state: [told] }), WireError);
  }
});

test("no message reaches a prototype, and none speaks through one", () => {
  const hostile = [
    '{"t":"beacon","now":1,"rev":2,"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
    '{"t":"close","campaign":"__proto__","rev":2,"__proto__":{"polluted":1}}',
    '{"t":"welcome","session":"__proto__","now":1,"beacon_s":1,"reconnect":{"base_ms":1,"cap_ms":1,"__proto__":{"polluted":1}}}',
  ];
  for (const json of hostile) {
    const message = decode(json);
    assert.equal(Object.getPrototypeOf(message), Object.prototype);
    assert.equal(message.polluted, undefined);
    assert.equal({}.polluted, undefined);
    assert.ok(!Object.hasOwn(message, "__proto__") && !Object.hasOwn(message, "constructor"));
  }
  // As a careless codec would build it.
  for (const t of ["__proto__", "constructor", "toString", "hasOwnProperty"]) assert.equal(check({ t }), null);
  assert.throws(() => check(Object.create(MESSAGES.beacon)), WireError);
  assert.throws(() => check(Object.assign(Object.create({ rev: 1 }), { t: "close", campaign: "c" })), WireError);
  assert.deepEqual(check(Object.assign(Object.create(null), MESSAGES.beacon)), MESSAGES.beacon);
  assert.throws(() => check(new Map(Object.entries(MESSAGES.beacon))), WireError);
});

test("what is no JSON, too long or too deep is refused, whatever it was", () => {
  const deep = "[".repeat(200_000);
  const nested = `{"t":"close","campaign":"c","rev":1,"x":${deep}${"]".repeat(200_000)}}`;
  for (const text of ["", "{", "nul", "\u0000", "[]", "7", "null", '"beacon"', deep, undefined, null, {}, " ".repeat(MESSAGE_CHARS_MAX + 1)]) {
    assert.throws(() => decode(text), WireError);
  }
  try {
    assert.deepEqual(decode(nested), { t: "close", campaign: "c", rev: 1 });
  } catch (error) {
    assert.ok(error instanceof WireError, "an engine may refuse it, with the error that says so");
  }
  const padding = '{"t":"close","campaign":"c","rev":1}';
  assert.ok(decode(padding.padEnd(MESSAGE_CHARS_MAX)));
});

test("a message with bits turned is refused, ignored, or of the right shape", () => {
  const { below, pick } = seeded(4);
  const texts = Object.values(MESSAGES).map((message) => JSON.stringify(message));
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    const units = [...pick(texts)];
    for (let n = 1 + below(3); n--; ) units[below(units.length)] = String.fromCharCode(32 + below(95));
    try {
      const message = decode(units.join(""));
      if (!message) continue;
      assert.deepEqual(Object.keys(message).sort(), Object.keys(MESSAGES[message.t]).sort());
    } catch (error) {
      assert.ok(error instanceof WireError, error.stack);
      refused++;
    }
  }
  assert.ok(refused > 1000);
});

test("a refusal shows no more than a line of what was sent", () => {
  assert.throws(
    () => check({ ...MESSAGES.close, rev: "x".repeat(10_000) }),
    (error) => error.message.includes("close.rev") && error.message.includes("xxx") && error.message.length < 200,
  );
});
