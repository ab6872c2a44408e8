// Holds that scripts run on the oldest TVs: ES5 syntax, and nothing that Chrome 38 (webOS 3) lacks.
//
//   node gate.mjs FILE...
//
// Prints what it found and ends with 1, or says nothing.

import { readFileSync } from "node:fs";

import { parse } from "acorn";

// Came after Chrome 38, so they are missing although the syntax is old. What is tested for before it is used
// (fetch, AbortController, globalThis) is not on the list.
const METHODS = [
  "at", "codePointAt", "copyWithin", "endsWith", "fill", "finally", "find", "findIndex", "findLast", "flat", "flatMap",
  "includes", "matchAll", "normalize", "padEnd", "padStart", "repeat", "replaceAll", "startsWith", "toSorted", "trimEnd",
  "trimStart",
];
const STATICS = [
  "Array.from", "Array.of", "Object.assign", "Object.entries", "Object.fromEntries", "Object.hasOwn", "Object.values",
  "Promise.allSettled", "Promise.any", "String.fromCodePoint", "String.raw",
];
const GLOBALS = ["BigInt", "Proxy", "Reflect", "WeakRef", "queueMicrotask", "structuredClone"];

function* nodes(node) {
  if (Array.isArray(node)) {
    for (const one of node) yield* nodes(one);
  } else if (node && typeof node.type === "string") {
    yield node;
    for (const key of Object.keys(node)) yield* nodes(node[key]);
  }
}

function* faults(code) {
  let tree;
  try {
    tree = parse(code, { ecmaVersion: 5, locations: true });
  } catch (error) {
    yield `not ES5: ${error.message}`;
    return;
  }
  for (const node of nodes(tree)) {
    const { type, loc, callee } = node;
    const name =
      type === "NewExpression" || type === "CallExpression" ? callee.type === "Identifier" && callee.name : null;
    if (GLOBALS.includes(name)) yield `line ${loc.start.line}: ${name} is newer than Chrome 38`;
    if (type !== "CallExpression" || callee.type !== "MemberExpression" || callee.computed) continue;
    const method = callee.property.name;
    const whole = `${callee.object.name}.${method}`;
    if (METHODS.includes(method) || STATICS.includes(whole)) yield `line ${loc.start.line}: ${whole}() is newer than Chrome 38`;
  }
}

for (const file of process.argv.slice(2)) {
  for (const fault of faults(readFileSync(file, "utf8"))) {
    console.log(`${file}: ${fault}`);
    process.exitCode = 1;
  }
}
