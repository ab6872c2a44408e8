// What goes over the wire (sections 2 to 4): MessagePack in and out, and which messages to a device are well formed.
import { decode as unpack, encode } from '@msgpack/msgpack';

export { encode };
export const SUBPROTOCOL = 'fanout.v1.msgpack';
export const MAX_MESSAGE_BYTES = 2 * 1024 * 1024; // section 9: a welcome with several bundles inline

const text = (v) => typeof v === 'string' && v.length > 0;
const name = (v) => text(v) && v.length <= 64; // section 9
const integer = (v) => Number.isSafeInteger(v) && v >= 0;
const flag = (v) => typeof v === 'boolean';
const digest = (v) => typeof v === 'string' && /^[0-9a-f]{64}$/.test(v);
const map = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);

// A field: [what it must be, its default]. A default of null: optional, and null is the same as left out.
const BUNDLE = { sha256: [digest], bytes: [integer], inline: [(v) => typeof v === 'string', null], url: [text, null] };
const BACKOFF = { base_ms: [integer], cap_ms: [integer] };
const NEWS = { campaign: [name], rev: [integer] };
const TYPES = {
  welcome: {
    session: [text], now: [integer], beacon_s: [(v) => Number.isFinite(v) && v > 0],
    reconnect: [(v) => fields(BACKOFF, v)], state: [Array.isArray, []],
  },
  prefetch: { ...NEWS, bundle: [(v) => fields(BUNDLE, v)], from: [integer], window_ms: [integer], shadow: [flag, false] },
  activate: {
    ...NEWS, stage: [name], bundle: [digest], at: [integer], window_ms: [integer],
    share: [(v) => v >= 0 && v <= 1, 1], miss: [(v) => ['fetch', 'generic', 'silent'].includes(v), 'fetch'],
    shadow: [flag, false],
  },
  cancel: NEWS,
  close: NEWS,
  beacon: { now: [integer], rev: [integer] },
  reconnect: { within_ms: [integer] },
};
const STATE = ['prefetch', 'activate', 'cancel', 'close'];
const inState = (item) => map(item) && STATE.includes(item.t); // of a later version: ignored, as anywhere

/** Return the known fields of `value` with their defaults, or null when one is wrong; unknown ones are left behind. */
function fields(spec, value) {
  if (!map(value)) return null;
  const found = {};
  for (const [name, [good, otherwise]] of Object.entries(spec)) {
    const given = value[name];
    if (given === undefined || (given === null && otherwise === null)) {
      if (otherwise === undefined) return null;
      if (otherwise !== null) found[name] = otherwise;
      continue;
    }
    const judged = good(given);
    if (!judged) return null;
    found[name] = judged === true ? given : judged;
  }
  return found;
}

/** Return the message in `value`, whole and clean, or null for what a device takes as if it had not come. */
export function check(value) {
  if (!map(value) || typeof value.t !== 'string' || !Object.hasOwn(TYPES, value.t)) return null;
  const found = fields(TYPES[value.t], value);
  if (!found) return null;
  if (value.t === 'welcome') found.state = found.state.filter(inState).map(check);
  if (value.t === 'welcome' && found.state.includes(null)) return null;
  return { t: value.t, ...found };
}

/** Return the message in these bytes, or null. */
export function decode(bytes) {
  try {
    return check(unpack(bytes));
  } catch {
    return null;
  }
}
