// What the JavaScript core says to the questions on stdin, JSON in and out: slots, messages and lives of devices. The
// test beside it asks the Python core the same. An argument names a bundle to ask instead of the sources.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import * as machine from "../../sdk/js/src/machine.js";
import * as slotted from "../../sdk/js/src/slots.js";
import * as wire from "../../sdk/js/src/wire.js";

const [, , bundle] = process.argv;
const sources = { ...machine, ...slotted, ...wire };
const { DeviceMachine, sharePoint, slotMs, check } = bundle ? createRequire(import.meta.url)(bundle) : sources;
const { decode, WireError } = sources;

function read(text) {
  try {
    return decode(text);
  } catch (error) {
    if (error instanceof WireError) return "refused";
    throw error;
  }
}

function lived({ device_id, held, randoms, steps }) {
  let drawn = 0;
  const machine = new DeviceMachine(device_id, { held, random: () => randoms[drawn++ % randoms.length] });
  const events = {
    received: ({ at, message }) => machine.received(check(message), at),
    due: ({ at }) => machine.due(at),
    stored: ({ at, sha256, via, took_ms }) => machine.stored(sha256, at, via, took_ms),
    fetch_failed: ({ at, sha256, retry_after_ms }) => machine.fetchFailed(sha256, at, retry_after_ms),
    distrusted: ({ at }) => machine.distrusted(at),
    resume: () => machine.resume(),
    evicted: ({ sha256 }) => machine.evicted(sha256),
    disconnected: ({ at, why }) => machine.disconnected(at, why),
    reopen_failed: ({ at, why }) => machine.reopenFailed(at, why),
  };
  return steps.map((step) => ({
    came: events[step.event](step) ?? null,
    next_due: machine.nextDueMs(),
    held: machine.held(),
    shown: machine.shown("cup"),
    connected: machine.connected(),
    server_ms: machine.serverMs(step.at),
  }));
}

const { slots = [], shares = [], messages = [], lives = [] } = JSON.parse(readFileSync(0, "utf8"));
const answers = {
  slots: slots.map((asked) => slotMs(...asked)),
  shares: shares.map((asked) => sharePoint(...asked)),
  messages: messages.map(read),
  lives: lives.map(lived),
};
process.stdout.write(JSON.stringify(answers));
