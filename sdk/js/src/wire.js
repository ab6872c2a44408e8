// The device protocol, version 1, as docs/protocol.md says it: what a device may be sent, what it sends, close codes.
// Pure; knows nothing of sockets or of what a message means.
//
// Nothing from the wire is trusted to be shaped right. `check` builds a new object of the known fields only, each
// checked and with its default filled in, so whatever else was in the message goes no further.

// A message to a device: the state of a few campaigns, each with an inline bundle. Longer ones are no messages.
export var MESSAGE_CHARS_MAX = 2 * 1024 * 1024;
// Digests listed in the query: a device caches a handful, and 64 hex digits each fill the URL.
export var HAVE_MAX = 32;
// A device that learns of an activation after its window is over spreads over min(this, the window).
export var CATCH_UP_MS = 5000;
// Beyond it doubles skip whole numbers.
var WHOLE_MAX = 9007199254740991;

export function WireError(message) {
  this.name = "WireError";
  this.message = message;
}
WireError.prototype = Object.create(Error.prototype);

var STATE = {
  prefetch: "campaign rev bundle from window_ms shadow",
  activate: "campaign rev stage bundle at window_ms share miss shadow",
  cancel: "campaign rev",
  close: "campaign rev"
};
var OTHERS = {
  welcome: "session now beacon_s reconnect state",
  beacon: "now rev",
  reconnect: "within_ms"
};

var TEXT = /^/;
var NAME = /^[^]{1,64}$/; // names come back in reports, and a gateway refuses reports with longer ones
var SHA256 = /^[0-9a-f]{64}$/;

// What a field has to be: a text of a form, one of a few values, a number up to a limit, or what a function makes of it.
// Those that are not here are whole numbers.
var KINDS = {
  t: TEXT,
  session: TEXT,
  url: TEXT,
  inline: TEXT,
  campaign: NAME,
  stage: NAME,
  sha256: SHA256,
  shadow: [false, true],
  miss: ["fetch", "generic", "silent"],
  share: 1,
  beacon_s: 1e9, // infinity would be a silence without an end
  bundle: function (value, t) {
    return t === "activate" ? fits(SHA256, value) : read(value, "sha256 bytes url inline", t);
  },
  reconnect: function (value, t) {
    return read(value, "base_ms cap_ms", t);
  },
  // What stands may come to include types of a later version; those are ignored here as they are elsewhere.
  state: function (value) {
    return (
      Array.isArray(value) &&
      value
        .map(function (told) {
          return typed(told);
        })
        .filter(Boolean)
    );
  }
};

// Fields that may be left out, with what they are then; those that are null then may also be null, and are left out.
var DEFAULTS = { shadow: false, share: 1, miss: "fetch", state: [], url: null, inline: null };

// Own fields only: what a message inherits, its sender has not said.
function own(object, field) {
  return Object.prototype.hasOwnProperty.call(object, field) ? object[field] : undefined;
}

function wrong(what, value) {
  throw new WireError((what + " is " + (value && typeof value === "object" ? "wrong" : value)).slice(0, 99));
}

function fits(kind, value, t) {
  if (kind.test) return typeof value === "string" && kind.test(value);
  if (kind.map) return kind.indexOf(value) >= 0;
  return kind.call ? kind(value, t) : typeof value === "number" && value >= 0 && value <= kind;
}

// Returns a new object of these fields.
function read(object, fields, t) {
  if (Object(object) !== object || Array.isArray(object)) wrong(t, object);
  var result = {};
  fields.split(" ").forEach(function (field) {
    var value = own(object, field);
    var fallback = own(DEFAULTS, field);
    if (fallback !== undefined && (value === undefined || value === fallback)) {
      if (fallback !== null) result[field] = fallback;
      return;
    }
    var taken = field in KINDS ? fits(KINDS[field], value, t) : fits(WHOLE_MAX, value) && value % 1 === 0;
    if (!taken) wrong(t + "." + field, value);
    result[field] = Object(taken) === taken ? taken : value;
  });
  return result;
}

function typed(object, others) {
  var t = read(object, "t", "message").t;
  var fields = own(STATE, t) || (others && own(others, t));
  if (!fields) return null;
  var message = read(object, fields, t);
  message.t = t;
  return message;
}

// Takes an object as a decoder gave it. Returns the message, null for a type this version does not know; throws a
// WireError for what is no message, or a known type with wrong fields.
export function check(object) {
  return typed(object, OTHERS);
}

// Reads one JSON text; as `check`.
export function decode(json) {
  var object;
  if (typeof json !== "string" || json.length > MESSAGE_CHARS_MAX) wrong("message", "no text or too long");
  try {
    object = JSON.parse(json);
  } catch (e) {
    wrong("message", "" + e);
  }
  return check(object);
}

// Of close codes: up to 4499 a device comes back with backoff, from here on it does not.
export var FINAL_CODE_MIN = 4500;
