#!/usr/bin/env node
// A device: node device.mjs ws://host:port TOKEN [--origin URL]. Prints one JSON line per event.
// Sockets, timers, HTTP and the cache are here; what to do with them machine.mjs decides.
// TOKEN may be @file: it is read anew for every connection, so that an expired token can be replaced.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import WebSocket from 'ws';
import { initial, nextDue, resume, retryAfter, step } from './machine.mjs';
import { MAX_MESSAGE_BYTES, SUBPROTOCOL, decode, encode } from './wire.mjs';

const WELCOME_MS = 10_000; // a connection that has not said welcome by then will not
const FETCH_MS = 30_000; // the longest a fetch may take, content included
const BUNDLE_BYTES = 1024 * 1024; // section 9
const JUMP_MS = 2000; // by which wall clock and timer part when the device slept; less is a clock being set
const LEAVE_MS = 200; // for the close frame to leave the house
const TIMER_MS = 2 ** 31 - 1; // setTimeout takes no more

const { values, positionals } = parseArgs({ allowPositionals: true, options: { origin: { type: 'string' } } });
const [address, tokenSource] = positionals;
if (positionals.length !== 2 || !/^wss?:/.test(address)) {
  console.error(`want: node device.mjs ws://host:port TOKEN|@FILE [--origin URL]; got ${positionals.length} arguments`);
  process.exit(64);
}
const endpoint = new URL(address);
if (endpoint.pathname === '/') endpoint.pathname = '/v1/connect';
const origin = values.origin ?? endpoint.origin.replace(/^ws/, 'http');

const file = tokenSource.startsWith('@') && tokenSource.slice(1);
const readToken = () => (file ? readFileSync(file, 'utf8').trim() : tokenSource);
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const print = (event, rest = {}) => console.log(JSON.stringify({ event, ...rest }));

const cache = new Map(); // digest -> content
let token = readToken(); // the newest that could be read
let state = initial(claimsOf(token).sub);
let live = null; // the newest connection that was welcomed
let opening = null; // the one that is to take its place
let topics = null; // of the token that was last welcomed
let connectAt = null; // when to open a connection, while there is none
let timer = null;
let leaving = false;
let drift = Date.now() - performance.now();

function feed(type, rest = {}) {
  if (leaving) return;
  const now = Date.now() - performance.now();
  const jumped = now - drift > JUMP_MS;
  drift = now;
  if (jumped && type !== 'distrusted') feed('distrusted');
  const [after, effects] = step(state, { type, at: performance.now(), random: Math.random(), ...rest });
  state = after;
  for (const { do: what, ...effect } of effects) EFFECTS[what](effect);
  const times = [nextDue(state), connectAt].filter((time) => time !== null);
  clearTimeout(timer);
  if (!times.length || leaving) return;
  timer = setTimeout(wake, Math.min(TIMER_MS, Math.max(0, Math.min(...times) - performance.now())));
}

function wake() {
  if (connectAt !== null && performance.now() >= connectAt) open();
  feed('due');
}

const EFFECTS = {
  send: ({ message }) => live?.readyState === WebSocket.OPEN && live.send(encode(message)),
  store: ({ sha256, content }) => cache.set(sha256, content),
  drop: ({ digests }) => digests.forEach((digest) => cache.delete(digest)),
  fetch: ({ bundle }) => void get(bundle),
  reopen: open,
  connect({ at }) {
    connectAt = at;
    if (at === null) finish('ended', 2);
  },
  flip: (effect) => print('flip', { ...effect, content: effect.bundle && cache.get(effect.bundle) }),
  prefetched: (effect) => print('prefetched', effect),
  cancelled: (effect) => print('cancelled', effect),
  closed: (effect) => print('closed', effect),
};

// --- Connections.

function open() {
  if (opening) return;
  connectAt = null;
  try {
    const read = readToken();
    if (claimsOf(read)) token = read;
  } catch (error) {
    print('token_unreadable', { reason: error.message });
  }
  const wanted = JSON.stringify(claimsOf(token).topics);
  const { have, since } = resume(state);
  const url = new URL(endpoint);
  if (have.length) url.searchParams.set('have', have.join(','));
  if (since && (topics ?? wanted) === wanted) url.searchParams.set('since', since);
  url.search = url.search.replaceAll('%2C', ',');
  const socket = new WebSocket(url, [SUBPROTOCOL], {
    headers: { Authorization: `Bearer ${token}` },
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
  });
  opening = socket;
  const patience = setTimeout(() => socket.terminate(), WELCOME_MS);
  let refusal = {};
  socket.on('unexpected-response', (_request, response) => {
    refusal = { status: response.statusCode, retry_after_ms: retryAfter(response.headers['retry-after']) };
    response.resume();
    socket.terminate();
  });
  socket.on('error', () => {}); // a close follows
  socket.on('message', (data, binary) => {
    const message = binary ? decode(data) : null;
    if (!message) return print('ignored');
    if (message.t === 'welcome' && socket === opening) {
      clearTimeout(patience);
      const old = live;
      [live, opening, topics] = [socket, null, wanted];
      old?.close(1000);
      print('connected', { session: message.session });
    }
    feed('received', { message, have });
  });
  socket.on('close', (code) => {
    clearTimeout(patience);
    const rest = { code: refusal.status ? null : code, status: null, retry_after_ms: null, ...refusal };
    const [wasLive, wasOpening] = [socket === live, socket === opening];
    if (wasLive) live = null;
    if (wasOpening) opening = null;
    if (!wasLive && !wasOpening) return; // left for a newer one
    print(live ? 'reopen_failed' : 'disconnected', rest);
    if (live) feed('reopen_failed', rest);
    else if (!opening) feed('disconnected', rest);
  });
}

// --- Content.

async function get({ sha256, bytes, url }) {
  const began = performance.now();
  let retry_after_ms = null;
  try {
    const where = new URL(url ?? `/v1/bundles/${sha256}`, origin);
    const answer = await fetch(where, { signal: AbortSignal.timeout(FETCH_MS) });
    retry_after_ms = retryAfter(answer.headers.get('retry-after'));
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const content = await read(answer, bytes || BUNDLE_BYTES);
    if (bytes && content.length !== bytes) throw new Error(`${content.length} bytes, not ${bytes}`);
    if (createHash('sha256').update(content).digest('hex') !== sha256) throw new Error('wrong digest');
    cache.set(sha256, content.toString());
  } catch (error) {
    print('fetch_failed', { sha256, reason: error.message });
    return feed('fetch_failed', { sha256, retry_after_ms });
  }
  feed('stored', { sha256, via: 'fetch', took_ms: performance.now() - began });
}

async function read(answer, most) {
  const chunks = [];
  let size = 0;
  for await (const chunk of answer.body) {
    size += chunk.length;
    if (size > most) throw new Error(`more than ${most} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function finish(event, status) {
  if (leaving) return;
  leaving = true;
  print(event);
  clearTimeout(timer);
  live?.close(1000);
  opening?.terminate();
  setTimeout(() => process.exit(status), LEAVE_MS);
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => finish('left', 0));
open();
