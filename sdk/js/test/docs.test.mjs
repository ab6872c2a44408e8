// The tables of README.md and the types name what the code has: nothing more, nothing less.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Device } from "../src/index.js";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const readme = read("README.md");
const types = read("src/index.d.ts");
const RIGHT = { url: "ws://gw", getToken: () => "t", WebSocket: class {} };

// The names in the first column of the table that begins so.
function named(heading) {
  const rows = readme.slice(readme.indexOf(`| ${heading} |`)).split("\n\n")[0].split("\n").slice(2);
  return rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+)/g)].map((match) => match[1])).sort();
}

// What an interface or a class of the types has.
function typed(head) {
  const body = types.slice(types.indexOf(`${head} {`)).split("\n}")[0];
  return [...body.matchAll(/^ {2}(\w+)\??[:(]/gm)].map((match) => match[1]).filter((name) => name !== "constructor").sort();
}

const literals = (head) => [...types.split(`${head} =`)[1].split(";")[0].matchAll(/"(\w+)"/g)].map((match) => match[1]).sort();

test("options and callbacks are the same in the README, the types and the code", () => {
  let message;
  try {
    new Device({ ...RIGHT, nothing: 1 });
  } catch (error) {
    message = error.message;
  }
  const taken = message.split("one of ")[1].split(",").sort();
  assert.ok(taken.length > 10);
  assert.deepEqual([...named("option"), ...named("callback")].sort(), taken);
  assert.deepEqual(typed("interface DeviceOptions"), taken);
});

test("methods are the same in the README, the types and the code", () => {
  const methods = Object.keys(new Device(RIGHT)).sort();
  assert.deepEqual(named("method"), methods);
  assert.deepEqual(typed("class Device"), methods);
});

test("states and kinds of errors are the same in the README and the types", () => {
  assert.deepEqual(named("state"), literals("type State"));
  assert.deepEqual(named("kind of error"), literals("type ErrorKind"));
});
