// The recipes' code as it stands on the page: run where Node can run it, else read by a parser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { gateway, sha, token, until } from "./gateway.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PAGE = readFileSync(join(ROOT, "RECIPES.md"), "utf8");

function blocks(title) {
  const section = PAGE.split(`\n## ${title}\n`)[1].split("\n## ")[0];
  return [...section.matchAll(/```jsx?\n([^]*?)```/g)].map(([, code]) => code);
}

test("every recipe is there, and the table of contents names it", () => {
  const titles = [...PAGE.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
  const linked = [...PAGE.matchAll(/\]\(#([a-z-]+)\)/g)].map(([, anchor]) => anchor);
  assert.deepEqual(linked, titles.map((title) => title.toLowerCase().replaceAll(" ", "-")));
  for (const title of titles) assert.ok(blocks(title).length, title);
});

test("what is for TVs is ES5, the rest is a module", async () => {
  const { parse } = await import("acorn");
  for (const title of ["A plain TV app", "Debug overlay"]) parse(blocks(title)[0], { ecmaVersion: 5 });
  assert.throws(() => parse(blocks("Node")[0], { ecmaVersion: 5 }));
  for (const title of ["React", "Service worker", "Node", "msgpack", "Tokens"]) {
    for (const code of blocks(title)) parse(code, { ecmaVersion: 2022, sourceType: "module" });
  }
});

test("the Node recipe connects, prefetches, shows, and leaves when it is told", async (t) => {
  const there = await gateway(t);
  const directory = mkdtempSync(join(tmpdir(), "recipe-"));
  t.after(() => rmSync(directory, { recursive: true }));
  symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
  const source = new URL("../../src/index.js", import.meta.url).href;
  writeFileSync(join(directory, "app.mjs"), blocks("Node")[0].replace('"fanout-device"', JSON.stringify(source)));
  const app = spawn(process.execPath, [join(directory, "app.mjs")], {
    env: { ...process.env, GATEWAY_URL: there.url, DEVICE_TOKEN: token() }
  });
  t.after(() => app.kill("SIGKILL"));
  let said = "";
  app.stdout.on("data", (data) => (said += data));
  const over = once(app, "close"); // has left, and all that it said is here
  const peer = await there.peer();
  assert.equal(peer.extensions, undefined);
  const content = '{"stages":{"live":{}}}';
  peer.send({
    t: "prefetch", campaign: "cup", rev: 1, from: 0, window_ms: 0,
    bundle: { sha256: sha(content), bytes: content.length, inline: content }
  });
  peer.send({
    t: "activate", campaign: "cup", rev: 2, stage: "live", bundle: sha(content), at: Date.now(), window_ms: 0
  });
  await until(() => peer.reports("active").length);
  app.kill("SIGTERM");
  assert.deepEqual(await over, [0, null]);
  assert.equal(said, `connecting\nconnected\nready cup\nshow cup live ${content}\nended\n`);
});

test("the msgpack recipe is a codec", async () => {
  const { encode, decode } = await import("@msgpack/msgpack");
  const msgpack = new Function("encode", "decode", blocks("msgpack")[0].replace(/import.*\n/, "").replace("export const msgpack =", "return"))(encode, decode);
  const message = { t: "beacon", now: 1795000000123, rev: 1795000000124 };
  assert.equal(msgpack.subprotocol, "fanout.v1.msgpack");
  assert.deepEqual(msgpack.decode(msgpack.encode(message)), message);
});
