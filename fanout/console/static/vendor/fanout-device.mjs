/*! fanout-device 0.1.0 */
// Text as UTF-8 bytes. Old TVs have no TextEncoder. Knows nothing else.

// A surrogate without its other half becomes U+FFFD, as TextEncoder does it, so no text is refused.
function utf8(text) {
  var whole = text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, function (some) {
    return some[1] ? some : "\ufffd";
  });
  var binary = unescape(encodeURIComponent(whole)); // one character a byte
  var bytes = new Uint8Array(binary.length);
  for (var i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// SHA-256 (FIPS 180-4), for pages without crypto.subtle: a TV's app comes from a file or over plain HTTP. It blocks
// while it runs, 16 KiB in well under a frame; knows nothing of bundles.


var START = [];
var ROUND = [];
// The standard's constants are 32 bits of the roots of the first primes; a double has 20 more than that, and
// working them out is shorter than writing them down.
for (var n = 2; ROUND.length < 64; n++) {
  for (var d = 2; d * d <= n && n % d; d++) {}
  if (d * d > n) {
    if (START.length < 8) START.push(fraction(Math.sqrt(n)));
    ROUND.push(fraction(Math.pow(n, 1 / 3)));
  }
}

function fraction(root) {
  return ((root % 1) * 0x100000000) | 0;
}

function rotr(word, by) {
  return (word >>> by) | (word << (32 - by));
}

// Returns 64 lower-case hex digits of a text's UTF-8, or of the bytes given.
function sha256(data) {
  var bytes = typeof data === "string" ? utf8(data) : data;
  var blocks = (bytes.length + 72) >> 6;
  var padded = new Uint8Array(blocks * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  var view = new DataView(padded.buffer);
  // The length in bits has a second word; no bundle is so large that it would not be 0.
  view.setUint32(padded.length - 4, bytes.length << 3);
  var hash = START;
  var words = new Int32Array(64);
  for (var at = 0; at < padded.length; at += 64) {
    hash = block(hash, words, view, at);
  }
  return hash
    .map(function (word) {
      return ("0000000" + (word >>> 0).toString(16)).slice(-8);
    })
    .join("");
}

function block(hash, w, view, at) {
  var s = hash.slice();
  for (var i = 0; i < 64; i++) {
    if (i < 16) {
      w[i] = view.getInt32(at + i * 4);
    } else {
      var x = w[i - 15];
      var y = w[i - 2];
      w[i] =
        w[i - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3)) + w[i - 7] + (rotr(y, 17) ^ rotr(y, 19) ^ (y >>> 10));
    }
    // The standard's a to h are s[0] to s[7] before the first round. Instead of moving all of them up by one, each
    // round looks one further down.
    var a = s[-i & 7];
    var e = s[(4 - i) & 7];
    var t1 =
      s[(7 - i) & 7] +
      (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) +
      ((e & s[(5 - i) & 7]) ^ (~e & s[(6 - i) & 7])) +
      ROUND[i] +
      w[i];
    var b = s[(1 - i) & 7];
    var c = s[(2 - i) & 7];
    s[(3 - i) & 7] = (s[(3 - i) & 7] + t1) | 0;
    s[(7 - i) & 7] = (t1 + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
  }
  return hash.map(function (word, j) {
    return (word + s[j]) | 0;
  });
}

// Where bundles are kept: in memory, and behind that in a storage like localStorage, which outlives the page.
//
// What this page counts on is in memory, so neither a full storage, nor another tab that makes room, nor anybody else
// who writes there can take away what a flip needs. The storage is read once, at the start, and every digest is
// checked then. It holds one key a bundle, `fanout:<sha256>`, with the instant of its last use before the content.
// There is no index: it would have to be mended where tabs of one origin write it at the same time.


var PREFIX = "fanout:";
// Browsers give an origin 5 to 10 MB for everything, and count two bytes a character.
var BYTES_MAX = 4 * 1024 * 1024;
// As many as a device can tell a gateway of.
var BUNDLES_MAX = 32;
var DAY_MS = 24 * 3600 * 1000;
// Unused for 30 days +- 20 %, a bundle goes. What came together would otherwise be missed together: a small herd.
var EXPIRY_MS_MIN = 24 * DAY_MS;
var EXPIRY_MS_SPREAD = 12 * DAY_MS;
// Before this (2020) a clock has not been set, and says nothing about age.
var CLOCK_SET_MS = 1577836800000;

// options, all of them optional: storage (as localStorage), bytesMax, bundlesMax, wallMs, onError(error).
function Cache(options) {
  options = options || {};
  var storage = options.storage;
  var bytesMax = options.bytesMax || BYTES_MAX;
  var bundlesMax = options.bundlesMax || BUNDLES_MAX;
  var wallMs = options.wallMs || Date.now;
  var kept = []; // { digest, content, used }, the least recently used first
  safely(load);

  this.digests = digests;

  // The content, null if it is not kept.
  this.get = function (digest) {
    var bundle = take(digest);
    if (!bundle) return null;
    kept.push(bundle);
    // Seldom: it is a write of all the content, in the moment of a flip.
    if (Math.abs(wallMs() - bundle.used) > DAY_MS) write(bundle);
    return bundle.content;
  };

  // Keeps a bundle; returns the digests of those that had to go for it. One larger than all the room is kept alone.
  this.put = function (digest, content) {
    var bundle = take(digest) || { digest: digest, content: content };
    kept.push(bundle);
    var gone = evict();
    write(bundle);
    return gone;
  };

  this.drop = drop;

  function digests() {
    return kept.map(function (bundle) {
      return bundle.digest;
    });
  }

  function drop(digests) {
    digests.forEach(function (digest) {
      take(digest);
      safely(function () {
        storage.removeItem(PREFIX + digest);
      });
    });
  }

  function take(digest) {
    var at = digests().indexOf(digest);
    return at < 0 ? null : kept.splice(at, 1)[0];
  }

  function evict() {
    var gone = [];
    function sum(bytes, bundle) {
      return bytes + bundle.content.length * 2;
    }
    while (kept.length > 1 && (kept.length > bundlesMax || kept.reduce(sum, 0) > bytesMax)) {
      gone.push(kept[0].digest);
      drop(gone);
    }
    return gone;
  }

  // --- The storage. Whatever it does, the device goes on with what is in memory.

  function safely(work) {
    try {
      if (storage) work();
    } catch (e) {
      if (options.onError) options.onError(e);
    }
  }

  function write(bundle) {
    bundle.used = wallMs();
    safely(function () {
      for (var i = 0; ; i++) {
        try {
          return storage.setItem(PREFIX + bundle.digest, bundle.used + "\n" + bundle.content);
        } catch (e) {
          // Full, by our bundles or by the app's own. Where all of ours make no room for it, memory alone has it.
          if (kept[i] === bundle) throw e;
          storage.removeItem(PREFIX + kept[i].digest);
        }
      }
    });
  }

  function load() {
    var now = wallMs();
    var keys = [];
    for (var i = 0; i < storage.length; i++) keys.push(storage.key(i));
    keys.forEach(function (key) {
      if (key.indexOf(PREFIX)) return;
      var parts = /^(\d+)\n([^]*)$/.exec(storage.getItem(key));
      var used = parts && +parts[1];
      // The last three digits of an instant are as good as random.
      var age = EXPIRY_MS_MIN + ((used % 1000) / 1000) * EXPIRY_MS_SPREAD;
      if (used < CLOCK_SET_MS || used > now) used = now;
      if (!parts || now - used > age || PREFIX + sha256(parts[2]) !== key) return storage.removeItem(key);
      kept.push({ digest: key.slice(PREFIX.length), content: parts[2], used: used });
    });
    kept.sort(function (a, b) {
      return a.used - b.used;
    });
    evict();
  }
}

// What a page hears about itself: the network came or went, the page is looked at again, the TV woke up. Knows nothing
// of devices. Without a window (Node, workers) there is nothing to hear.

// A page that was frozen, or comes back from the browser's history, is told as one whose network came back is: nothing
// reached it meanwhile, its socket may be dead, and what is overdue may have been cancelled. These events come before
// its timers run again.
//
// on: online(), offline(), awake(). Returns a function that stops listening.
function listen(on) {
  if (typeof document === "undefined") return function () {};
  function looked() {
    if (!document.hidden) on.awake();
  }
  var page = window;
  var hooks = {
    online: on.online,
    offline: on.offline,
    pageshow: on.online,
    resume: on.online,
    visibilitychange: looked
  };
  // The last two are the document's; on their way down to it the window sees them, too.
  function each(method) {
    for (var name in hooks) page[method](name, hooks[name], true);
  }
  each("addEventListener");
  return function () {
    each("removeEventListener");
  };
}

// The one place that knows clocks and timers, so that tests may bring their own.

// A longer wait than this many milliseconds overflows to "at once" in every browser. Longer ones are cut; whoever set
// one finds nothing due when it fires, and sets the next.
var TIMER_MS_MAX = 0x7fffffff;

// Wall clock and timer apart by more than this since the last look: the TV slept, or its clock was set. Either way a
// cancel may have been missed; a false alarm costs one sync.
var JUMP_MS = 2000;
// A timer this late stood still. A hidden tab's comes up to 1 s late, and after five minutes up to 60 s: then the
// device asks before it acts, and nobody is looking.
var LATE_MS = 5000;
// The page's own clocks. `monoMs` never runs backwards; `wallMs` may be wrong by years and only tells that time jumped.
var systemClock = {
  wallMs: Date.now,
  monoMs: function () {
    return performance.now();
  }
};

// Wrapped, because browsers refuse to have setTimeout called as a method of something else.
var systemTimers = {
  set: function (work, ms) {
    return setTimeout(work, ms);
  },
  clear: function (id) {
    clearTimeout(id);
  }
};

// One timer that is set again and again.
function Timer(timers, work) {
  var id = null;

  // In so many ms; infinitely many mean never.
  this.set = function (ms) {
    this.clear();
    // Rounded up: a timer that fires early would find nothing due and be set again for a fraction of a millisecond.
    if (ms < Infinity) id = timers.set(work, Math.min(Math.max(0, Math.ceil(ms)), TIMER_MS_MAX));
  };

  this.clear = this.close = function () {
    if (id !== null) timers.clear(id);
    id = null;
  };
}

// Tells whether time has jumped since the last look.
function Watch(clock) {
  var drift;

  this.begin = function () {
    drift = null; // wall clock minus timer, at the last look
    this.dueMs = Infinity; // what a timer is set to, monotonic ms
  };

  this.jumped = function () {
    var now = clock.monoMs();
    var apart = clock.wallMs() - now;
    var jumped =
      now - this.dueMs > LATE_MS || (drift !== null && Math.abs(apart - drift) > JUMP_MS);
    drift = apart;
    if (jumped) this.dueMs = Infinity;
    return jumped;
  };
}

// Fetching a bundle: from its own URL, or from the usual path on the origin. The digest decides, not the sender. Knows
// nothing of retries: the machine plans those.
//
// XMLHttpRequest is asked before fetch: every browser has it, and even the oldest can be stopped and tells how much
// has come. A fetch the app brings is asked before both.


// A slow mobile network moves the largest bundle in this time. Over all of it: an origin that drips is one that fails.
var FETCH_MS_MAX = 30000;
// Wire version 1 knows no larger one.
var BUNDLE_BYTES_MAX = 1024 * 1024;

// Whoever asks for more has a mistake in a configuration. A TV that keeps away for a day has missed the evening.
var RETRY_AFTER_MS_MAX = 3600000;

// A Retry-After header in ms, 0 if there is none or it is a date: that needs a wall clock, which a TV does not have.
function retryAfterMs(value) {
  return /^\d+$/.test(value) ? Math.min(value * 1000, RETRY_AFTER_MS_MAX) : 0;
}

// Calls back once, `done(null, content)` or `done(error, null, retry_after_ms)`; returns a function that stops it.
// options: originUrl, fetch, timers.
function get(options, bundle, done) {
  var url = bundle.url || "/v1/bundles/" + bundle.sha256;
  if (url.charAt(0) === "/") url = /^\w+:\/\/[^\/]+/.exec(options.originUrl)[0] + url;
  var bytesMax = Math.min(bundle.bytes || BUNDLE_BYTES_MAX, BUNDLE_BYTES_MAX);
  var abort = null;
  var timer = new Timer(options.timers, function () {
    fail("too slow");
  });
  function stop() {
    done = null;
    timer.clear();
    if (abort) abort();
  }
  function end(error, content, retry_after_ms) {
    var open = done;
    stop();
    if (open) open(error, content, retry_after_ms);
  }
  function fail(what, retry_after_ms) {
    end(url + ": " + what, null, retry_after_ms);
  }
  // Tells whether this answer is one to go on with.
  function accept(status, retryAfter) {
    if (status !== 200) fail("HTTP " + status, retryAfterMs(retryAfter));
    return status === 200;
  }
  function fits(bytes) {
    if (bytes > bytesMax) fail("over " + bytesMax + " bytes");
    return bytes <= bytesMax;
  }
  function read(content) {
    var bytes = utf8(content);
    if (done && fits(bytes.length)) {
      digest(bytes, function (found) {
        if (found === bundle.sha256) end(null, content);
        else fail("sha256 is " + found);
      });
    }
  }

  timer.set(FETCH_MS_MAX);
  try {
    if (options.fetch || typeof XMLHttpRequest === "undefined") byFetch(options.fetch || fetch);
    else byXhr(new XMLHttpRequest());
  } catch (e) {
    fail(e);
  }
  return stop;

  function byXhr(request) {
    request.open("GET", url);
    // Bytes that are no UTF-8, or were declared to be something else, do not have the right digest then.
    request.overrideMimeType("text/plain;charset=utf-8");
    request.onprogress = function (event) {
      fits(event.loaded);
    };
    request.onerror = function () {
      fail("no answer, or CORS");
    };
    request.onload = function () {
      if (accept(request.status, request.getResponseHeader("Retry-After"))) read(request.responseText);
    };
    abort = function () {
      request.abort();
    };
    request.send();
  }

  function byFetch(fetch) {
    var aborter = typeof AbortController === "function" && new AbortController();
    if (aborter) {
      abort = function () {
        aborter.abort();
      };
    }
    fetch(url, { credentials: "omit", signal: aborter ? aborter.signal : undefined })
      .then(function (response) {
        if (!accept(response.status, response.headers.get("Retry-After"))) return;
        var reader = response.body.getReader();
        var decoder = new TextDecoder();
        var content = "";
        var bytes = 0;
        return next();
        function next() {
          return reader.read().then(function (part) {
            if (part.done) return read(content + decoder.decode());
            bytes += part.value.length;
            content += decoder.decode(part.value, { stream: true });
            if (fits(bytes)) return next();
          });
        }
      })
      .then(null, fail);
  }
}

// The browser's own SHA-256 does not block the page, but exists in secure contexts alone.
function digest(bytes, done) {
  var subtle = typeof crypto === "object" && crypto.subtle;
  if (!subtle) return done(sha256(bytes));
  subtle.digest("SHA-256", bytes).then(function (buffer) {
    done(
      [].map
        .call(new Uint8Array(buffer), function (byte) {
          return (byte + 256).toString(16).slice(1);
        })
        .join("")
    );
  });
}

// The device protocol, version 1, as docs/protocol.md says it: what a device may be sent, what it sends, close codes.
// Pure; knows nothing of sockets or of what a message means.
//
// Nothing from the wire is trusted to be shaped right. `check` builds a new object of the known fields only, each
// checked and with its default filled in, so whatever else was in the message goes no further.

// A message to a device: the state of a few campaigns, each with an inline bundle. Longer ones are no messages.
var MESSAGE_CHARS_MAX = 2 * 1024 * 1024;
// A device that learns of an activation after its window is over spreads over min(this, the window).
var CATCH_UP_MS = 5000;
// Beyond it doubles skip whole numbers.
var WHOLE_MAX = 9007199254740991;

function WireError(message) {
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
    return t === "activate" ? fits$1(SHA256, value) : read(value, "sha256 bytes url inline", t);
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

function wrong$1(what, value) {
  throw new WireError((what + " is " + (value && typeof value === "object" ? "wrong" : value)).slice(0, 99));
}

function fits$1(kind, value, t) {
  if (kind.test) return typeof value === "string" && kind.test(value);
  if (kind.map) return kind.indexOf(value) >= 0;
  return kind.call ? kind(value, t) : typeof value === "number" && value >= 0 && value <= kind;
}

// Returns a new object of these fields.
function read(object, fields, t) {
  if (Object(object) !== object || Array.isArray(object)) wrong$1(t, object);
  var result = {};
  fields.split(" ").forEach(function (field) {
    var value = own(object, field);
    var fallback = own(DEFAULTS, field);
    if (fallback !== undefined && (value === undefined || value === fallback)) {
      if (fallback !== null) result[field] = fallback;
      return;
    }
    var taken = field in KINDS ? fits$1(KINDS[field], value, t) : fits$1(WHOLE_MAX, value) && value % 1 === 0;
    if (!taken) wrong$1(t + "." + field, value);
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
function check$1(object) {
  return typed(object, OTHERS);
}

// Reads one JSON text; as `check`.
function decode(json) {
  var object;
  if (typeof json !== "string" || json.length > MESSAGE_CHARS_MAX) wrong$1("message", "no text or too long");
  try {
    object = JSON.parse(json);
  } catch (e) {
    wrong$1("message", "" + e);
  }
  return check$1(object);
}

// Of close codes: up to 4499 a device comes back with backoff, from here on it does not.
var FINAL_CODE_MIN = 4500;

// One WebSocket: opens it, reads and writes messages, says once why it ended. Knows nothing of when or why to open one.
//
// In browsers a refused handshake tells neither its status nor its Retry-After. A WebSocket that can be asked, as
// Node's `ws`, emits "unexpected-response", and then both are known.


// From the first packet to the welcome. A gateway under load takes its time, a dead one for ever.
var OPEN_MS_MAX = 15000;

// options: url, WebSocket, codec, timers. resume: as the machine gave it. on: message(link, message), bad(error), over(link, why), this one once and last.
function Link(options, resume, token, on) {
  var self = this;
  var codec = options.codec;
  var subprotocol = codec ? codec.subprotocol : "fanout.v1.json";
  var refused;
  // Commas between digests are plain in a query; escaping them would make the longest one a third longer.
  var have = resume.have.length ? "&have=" + resume.have : "";
  var socket = new options.WebSocket(options.url + "?since=" + resume.since + have, [subprotocol, "bearer." + token]);
  var timer = new Timer(options.timers, function () {
    end({ reason: "no welcome in time" });
  });
  timer.set(OPEN_MS_MAX);
  socket.binaryType = "arraybuffer";
  socket.onopen = function () {
    if (socket.protocol !== subprotocol) end({ reason: "no subprotocol", status: 400 });
  };
  socket.onmessage = function (event) {
    var data = event.data;
    var message;
    if (!on) return;
    try {
      // A text is none either, though it may name a length that the array would have.
      if (codec && !(data.byteLength <= MESSAGE_CHARS_MAX)) throw "no bytes or too long";
      message = codec ? check$1(codec.decode(new Uint8Array(data))) : decode(data);
    } catch (e) {
      return on.bad(e); // as if it had not come
    }
    if (!message) return;
    if (message.t === "welcome") timer.clear();
    on.message(self, message);
  };
  // An error event says nothing that the close event after it does not say.
  socket.onerror = function () {};
  socket.onclose = function (event) {
    end(refused || { reason: event.reason || "closed", code: event.code });
  };
  if (socket.on) {
    socket.on("unexpected-response", function (request, response) {
      var status = response.statusCode;
      refused = { reason: "HTTP " + status, status: status, retry_after_ms: retryAfterMs(response.headers["retry-after"]) };
      socket.close();
    });
  }

  // Into a connection that is being lost, a message is lost; `over` comes soon.
  this.send = function (message) {
    socket.send(codec ? codec.encode(message) : JSON.stringify(message));
  };

  // Leaves. `over` is not called any more.
  this.close = function () {
    on = null;
    end();
  };

  function end(why) {
    var open = on;
    on = null; // a socket may go on delivering until its peer has said goodbye, too
    timer.clear();
    try {
      socket.close(1000);
    } catch (e) {
      // it is closed already
    }
    if (open) open.over(self, why);
  }
}

// Deterministic jitter: when, within a window, one device acts. Pure.
//
// The slot depends on nothing but the device's id and the publication's revision, so every SDK and every replay agree
// on it to the millisecond, and no coordination is needed to spread a fleet evenly.


var RANGE = 0x100000000; // of a hash

function mixed(k) {
  k = Math.imul(k, 0xcc9e2d51);
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593);
}

// MurmurHash3, x86_32, of bytes or of a text's UTF-8, as an unsigned number. Of the seed only the low 32 bits count:
// ToInt32 takes them modulo 2^32, exactly, for every whole number a double holds.
function murmur3(data, seed) {
  var bytes = typeof data === "string" ? utf8(data) : data;
  var whole = bytes.length & -4;
  var h = seed | 0;
  var i = 0;
  for (; i < whole; i += 4) {
    h ^= mixed(bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    h = (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  var k = 0;
  for (i = bytes.length; i-- > whole; ) k = (k << 8) | bytes[i];
  h ^= mixed(k) ^ bytes.length; // nothing left mixes to 0, which changes nothing
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

// Where in the window this device acts: 0 <= slot < window_ms, 0 for an empty window.
function slotMs(deviceId, rev, window_ms) {
  // Dividing first is exact, so that every language gets the same millisecond.
  return Math.floor((murmur3(deviceId, rev) / RANGE) * window_ms);
}

// The share from which on this device belongs to a canary: 0 <= point < 1. Seeded by the campaign and not by the
// revision: widening a share only ever adds devices.
function sharePoint(deviceId, campaign) {
  return murmur3(deviceId, murmur3(campaign, 0)) / RANGE;
}

// One message of a stage lane on one device: whether it is for it, and when it acts. Pure.


// When this device acts on a window: its slot, even if that has just passed (then it acts at once); or, once the window
// is over, a slot in a short window that starts now, so that latecomers do not act together.
function instantMs(deviceId, rev, startMs, window_ms, nowMs) {
  if (nowMs < startMs + window_ms) return startMs + slotMs(deviceId, rev, window_ms);
  return Math.floor(nowMs) + slotMs(deviceId, rev, Math.min(CATCH_UP_MS, window_ms));
}

// A cancel is never anybody's: it has no share.
function Armed(message, deviceId, nowMs) {
  this.message = message;
  // The device belongs to the share. Others count too: they decide what stands.
  this.mine = sharePoint(deviceId, message.campaign) < message.share;
  this.follows = false; // stands, and is for this device to act on
  this.waiting = false; // its instant came without the bundle
  this.place(deviceId, nowMs);
}

// Computes the instant as of now.
Armed.prototype.place = function (deviceId, nowMs) {
  var m = this.message;
  this.late = nowMs >= m.at + m.window_ms; // learned (or trusted again) after its window
  this.dueMs = instantMs(deviceId, m.rev, m.at, m.window_ms, nowMs);
};

// Which activations of a campaign still stand, after later ones and cancels. Pure.
//
// It looks at revisions alone, for a revision is the store's clock at publication. An activation X has *begun* for a
// later publication of revision R if X.at <= R: from then on some devices show it, which is the point of no return.
//
// - A later activation or cancel strikes every X that had not begun when it was published.
// - What had begun is struck by nothing: the devices whose slots are still to come follow, until a newer one reaches
//   them. So a device that arrives between "upcoming" and "live" still gets "upcoming".

// Returns the activations that stand, by revision. Takes activations and cancels (they have no `at`) in any order,
// duplicates allowed, as a list of its own: it is sorted in place.
function standing(messages) {
  return messages
    .sort(function (one, other) {
      return one.rev - other.rev;
    })
    .reduce(function (result, next) {
      result = result.filter(function (earlier) {
        return earlier.at <= next.rev && earlier.rev < next.rev;
      });
      return "at" in next ? result.concat(next) : result;
    }, []);
}

// What a device knows of one campaign: its two lanes, and what it shows. Pure.
//
// Messages may be repeated and may overtake each other, so each lane is a function of the *set* of messages received,
// never of their order:
//
// - The content lane is the prefetch with the newest revision.
// - The stage lane is what `standing` leaves of all activations and cancels. Two more rules are the device's own: what
//   is at or below `floorRev` has been acted on (or closed) and never acts again; and of several activations that came
//   too late for their window, only the newest is followed, because a viewer should not see the evening replayed.
//
// Knows nothing of clocks' estimation, connections, fetching or reports.


// Activations and cancels remembered beyond the last one acted on; an event rarely moves even five times.
var STAGE_LANE_MAX = 32;

// How far the newest prefetch has come. FAILED was reported once; it may still become READY.
var PENDING = 0;
var READY = 1;
var FAILED = 2;

function Lanes(campaign) {
  this.campaign = campaign;
  this.contentRev = 0; // newest prefetch
  this.bundle = {}; // its bundle, without inline content
  this.content = PENDING; // how far it has come
  this.armed = []; // activations and cancels above the floor, by revision
  this.floorRev = 0; // at or below: acted on, never again
  this.closedRev = 0; // at or below: closed
  this.activeRev = 0; // newest revision reported active
  this.shown = []; // [stage, bundle, rev] on the screen, empty for none
  this.rehearsed = []; // the same, in shadow
  this.digests = []; // bundles named by this campaign's messages
}

function revOf(armed) {
  return armed.message.rev;
}

// Nothing is known but, perhaps, that the campaign was closed.
Lanes.prototype.empty = function () {
  return !this.contentRev && !this.armed.length && !this.activeRev && this.floorRev <= this.closedRev;
};

// Makes this prefetch the content lane's; the caller has checked that it is newer.
Lanes.prototype.adopt = function (message) {
  var bundle = message.bundle;
  this.contentRev = message.rev;
  this.bundle = { sha256: bundle.sha256, bytes: bundle.bytes };
  if ("url" in bundle) this.bundle.url = bundle.url;
  this.content = PENDING;
  this._name(bundle.sha256);
};

// Adds an activation or a cancel; false if it is known or of no consequence any more.
Lanes.prototype.arm = function (message, deviceId, nowMs) {
  if (message.rev <= this.floorRev || this.armed.map(revOf).indexOf(message.rev) >= 0) return false;
  if (message.bundle) this._name(message.bundle);
  this.armed.push(new Armed(message, deviceId, nowMs));
  this.armed.sort(function (one, other) {
    return revOf(one) - revOf(other);
  });
  this.settle();
  return true;
};

// Returns the activations this device follows, by revision.
Lanes.prototype.followed = function () {
  return this.armed.filter(function (a) {
    return a.follows;
  });
};

// Drops everything up to `rev`; true if that was on the screen, or all there was.
Lanes.prototype.close = function (rev) {
  if (rev <= this.closedRev) return false;
  var had = !this.empty();
  this.closedRev = rev;
  this.raiseFloor(rev);
  if (this.contentRev <= rev) {
    this.contentRev = 0;
    this.bundle = {};
    this.content = PENDING;
  }
  var off = this.shown[2] <= rev;
  if (off) this.shown = [];
  if (this.rehearsed[2] <= rev) this.rehearsed = [];
  if (this.activeRev <= rev) this.activeRev = 0;
  return off || (had && this.empty());
};

// Forgets activations and cancels at or below `rev`: neither can change what newer ones do.
Lanes.prototype.raiseFloor = function (rev) {
  if (rev <= this.floorRev) return;
  this.floorRev = rev;
  this.armed = this.armed.filter(function (a) {
    return revOf(a) > rev;
  });
};

// Decides again which activations this device follows.
Lanes.prototype.settle = function () {
  var excess = this.armed.length - STAGE_LANE_MAX;
  if (excess > 0) this.raiseFloor(revOf(this.armed[excess - 1]));
  var stand = standing(
    this.armed.map(function (a) {
      return a.message;
    })
  );
  var newestLate = null;
  this.armed.forEach(function (a) {
    a.follows = a.mine && stand.indexOf(a.message) >= 0;
    if (a.follows && a.late) {
      if (newestLate) newestLate.follows = false;
      newestLate = a;
    }
  });
};

// Records that this activation acts now; true if what is shown changes by it.
Lanes.prototype.act = function (message, bundle) {
  this.raiseFloor(message.rev);
  this.activeRev = message.rev;
  var where = message.shadow ? "rehearsed" : "shown";
  var before = this[where];
  this[where] = [message.stage, bundle, message.rev];
  return before[0] !== message.stage || before[1] !== bundle;
};

// Tells whether anything that still counts names this bundle.
Lanes.prototype.uses = function (sha256) {
  return (
    this.bundle.sha256 === sha256 ||
    this.shown[1] === sha256 ||
    this.armed.some(function (a) {
      return a.message.bundle === sha256;
    })
  );
};

// Tells whether this campaign is still to get the bundle, or has an activation waiting for it.
Lanes.prototype.wants = function (sha256) {
  return (this.bundle.sha256 === sha256 && this.content !== READY) || this.awaits(sha256);
};

// Tells whether an activation's instant came without this bundle.
Lanes.prototype.awaits = function (sha256) {
  return this.followed().some(function (a) {
    return a.waiting && a.message.bundle === sha256;
  });
};

Lanes.prototype._name = function (sha256) {
  if (this.digests.indexOf(sha256) < 0) this.digests = this.digests.concat(sha256).slice(-8);
};

// One bundle to be fetched: when, for whom, and how often it failed. Pure.

// Tries before a device reports `failed`. It tries again when it reconnects or hears of the bundle anew.
var TRIES_MAX = 5;
// First span of the backoff between tries; it doubles. A window that has more time left is used instead.
var RETRY_BASE_MS = 1000;

// For whom it is (`campaign`, `rev`) and the end of the window (`untilMs`) come with the plan.
function Want(bundle) {
  this.bundle = bundle;
  this.dueMs = Infinity; // when to fetch, by the server's clock
  this.flying = false; // the driver is fetching it now
  this.tries = 0; // fetches that failed
}

// Plans the next try, with full jitter; false when there is none. A quarter of what is left of the window is enough to
// spread a fleet whose origin has just failed, and leaves room for the tries to come. Near or past its end the span
// grows as a backoff does.
Want.prototype.retry = function (nowMs, retry_after_ms, random) {
  this.flying = false;
  if (++this.tries >= TRIES_MAX) return false;
  var span = Math.max((this.untilMs - nowMs) / 4, RETRY_BASE_MS * Math.pow(2, this.tries));
  this.dueMs = Math.floor(nowMs) + retry_after_ms + Math.floor(random() * span);
  return true;
};

// The bundles of one device: which it holds, which it is to fetch and when. Pure.
//
// However many campaigns want a bundle, it is fetched once. Knows nothing of what wants a bundle; that is lanes.js.


function Shelf(held) {
  this.held = held.slice(); // digests in the driver's cache, newest last
  this.wants = []; // plans to fetch, one a digest
}

Shelf.prototype.has = function (sha256) {
  return this.held.indexOf(sha256) >= 0;
};

// Notes that the driver's cache has it; returns what had been planned to fetch it.
Shelf.prototype.hold = function (sha256) {
  if (!this.has(sha256)) this.held.push(sha256);
  var want = this.wanted(sha256);
  this.drop(want);
  return want;
};

// Notes that the driver's cache no longer has it.
Shelf.prototype.lose = function (sha256) {
  this.held = this.held.filter(function (other) {
    return other !== sha256;
  });
};

// Returns the plan to fetch this bundle, undefined if there is none.
Shelf.prototype.wanted = function (sha256) {
  return this.wants.filter(function (want) {
    return want.bundle.sha256 === sha256;
  })[0];
};

// Plans a fetch, or changes the plan, unless it is being carried out. `dueMs` and `untilMs` (the end of the window for
// retries) are by the server's clock; `early` keeps the plan that exists if it comes sooner.
Shelf.prototype.want = function (campaign, rev, bundle, dueMs, untilMs, early) {
  var want = this.wanted(bundle.sha256);
  if (!want) this.wants.push((want = new Want(bundle)));
  if (want.flying) return;
  want.campaign = campaign;
  want.rev = rev;
  want.bundle = bundle;
  want.untilMs = untilMs;
  want.dueMs = early ? Math.min(dueMs, want.dueMs) : dueMs;
};

// Gives a plan up.
Shelf.prototype.drop = function (gone) {
  this.wants = this.wants.filter(function (want) {
    return want !== gone;
  });
};

// The campaigns of one device: what each message, instant and bundle means for them. Pure.
//
// Brings the lanes (which messages count) and the shelf (which bundles are there) together. Speaks of the server's time
// alone, and reports whatever happens; whether anyone is there to be told, and whether what is armed may be trusted, is
// the business of machine.js. Every `nowMs` is the server's clock.


// Closed campaigns remembered so that a stray old message does not bring one back.
var TOMBSTONES_MAX = 64;
// Converting instants between two clocks as doubles may lose a fraction of a millisecond.
var EARLY_MS = 0.5;

function Campaigns(deviceId, held) {
  this._deviceId = deviceId;
  this._lanes = []; // by first appearance; a list, so that no name of a campaign is anything special
  this.shelf = new Shelf(held);
  this.actions = []; // what the driver is to do; the machine takes it out
}

// --- Instants

// Returns when something is to be done, Infinity for never: fetches, and flips if what is armed may be trusted.
Campaigns.prototype.nextMs = function (trusted) {
  var shelf = this.shelf;
  var planned = shelf.wants.filter(function (want) {
    return !want.flying;
  });
  this._lanes.forEach(function (lanes) {
    planned = planned.concat(
      lanes.followed().filter(function (a) {
        return trusted && (!a.waiting || shelf.has(a.message.bundle));
      })
    );
  });
  return planned.reduce(function (soonest, plan) {
    return Math.min(soonest, plan.dueMs);
  }, Infinity);
};

// Lets what is overdue act as latecomers do. Not `doubted` on a new connection without a silence before it: then only
// what had been given up gets another chance.
Campaigns.prototype.trust = function (nowMs, doubted) {
  var self = this;
  this._lanes.forEach(function (lanes) {
    lanes.armed.forEach(function (a) {
      var givenUp = a.waiting && !self.shelf.wanted(a.message.bundle);
      if (a.dueMs <= nowMs && (doubted || givenUp)) {
        a.place(self._deviceId, nowMs);
        if (givenUp) a.waiting = false;
      }
    });
    lanes.settle();
  });
};

// --- Messages

// Takes in a message; repeated or overtaken ones change nothing.
Campaigns.prototype.apply = function (message, nowMs) {
  var lanes = this.lanesOf(message.campaign);
  if (!lanes) this._lanes.push((lanes = new Lanes(message.campaign)));
  if (message.rev <= lanes.closedRev) return;
  if (message.t === "prefetch") {
    this._prefetch(lanes, message, nowMs);
  } else if (message.t === "close") {
    this._close(lanes, message.rev);
  } else {
    this._stage(lanes, message, nowMs);
  }
};

// Returns what is known of a campaign, undefined if nothing is.
Campaigns.prototype.lanesOf = function (campaign) {
  return this._lanes.filter(function (lanes) {
    return lanes.campaign === campaign;
  })[0];
};

Campaigns.prototype._stage = function (lanes, message, nowMs) {
  var shelf = this.shelf;
  var before = lanes.followed();
  if (!lanes.arm(message, this._deviceId, nowMs)) return;
  if (message.t === "cancel") {
    // Unless it took back something this device would have acted on, it changes nothing.
    var all = before.every(function (a) {
      return a.follows;
    });
    if (all) return;
    this.actions.push({ do: "cancelled", campaign: lanes.campaign, rev: message.rev });
  }
  // An activation that waits while nobody fetches for it may ask anew.
  lanes.armed.forEach(function (a) {
    if (!shelf.wanted(a.message.bundle)) a.waiting = false;
  });
  this._tidy();
};

Campaigns.prototype._close = function (lanes, rev) {
  var shelf = this.shelf;
  var over = lanes.close(rev);
  this._tidy();
  var used = [];
  var gone = [];
  lanes.digests.forEach(function (sha256) {
    if (this._any("uses", sha256)) used.push(sha256);
    else if (shelf.has(sha256)) gone.push(sha256);
  }, this);
  lanes.digests = used;
  gone.forEach(shelf.lose, shelf);
  if (gone.length) this.actions.push({ do: "drop", campaign: lanes.campaign, digests: gone });
  if (over) this.actions.push({ do: "closed", campaign: lanes.campaign, rev: rev });
  var tombstones = this._lanes.filter(function (other) {
    return other.empty();
  });
  if (tombstones.length > TOMBSTONES_MAX) {
    var oldest = tombstones.reduce(function (one, other) {
      return other.closedRev < one.closedRev ? other : one;
    });
    this._lanes.splice(this._lanes.indexOf(oldest), 1);
  }
};

// --- Content

// Takes in that the driver's cache now holds this bundle.
Campaigns.prototype.stored = function (sha256, via, took_ms) {
  var want = this.shelf.hold(sha256);
  if (this._any("uses", sha256)) {
    this._ready(sha256, via, took_ms);
  } else {
    // Closed or superseded while it was on its way.
    this.shelf.lose(sha256);
    this.actions.push({ do: "drop", campaign: want ? want.campaign : "", digests: [sha256] });
  }
};

// Takes in that a fetch failed: plans another, or gives up and says so.
Campaigns.prototype.fetchFailed = function (sha256, nowMs, retry_after_ms, random) {
  var want = this.shelf.wanted(sha256);
  if (!want || (this._any("wants", sha256) && want.retry(nowMs, retry_after_ms, random))) return;
  this.shelf.drop(want);
  this._lanes.forEach(function (lanes) {
    if (lanes.bundle.sha256 === sha256) this._contentFailed(lanes);
    lanes.followed().forEach(function (a) {
      if (a.waiting && a.message.bundle === sha256) this._report(lanes, a.message.rev, "failed");
    }, this);
  }, this);
};

// Starts the fetches that are due; a bundle that is held already is ready at that instant.
Campaigns.prototype.fetch = function (nowMs) {
  this.shelf.wants.forEach(function (want) {
    if (want.flying || want.dueMs > nowMs + EARLY_MS) return;
    if (this.shelf.has(want.bundle.sha256)) {
      this.shelf.drop(want);
      this._ready(want.bundle.sha256, "cache", 0);
    } else {
      want.flying = true;
      this.actions.push({ do: "fetch", campaign: want.campaign, rev: want.rev, bundle: want.bundle });
    }
  }, this);
};

// Tells whether any campaign `uses`, `wants` or `awaits` this bundle.
Campaigns.prototype._any = function (what, sha256) {
  return this._lanes.some(function (lanes) {
    return lanes[what](sha256);
  });
};

// Gives up fetching what nobody wants any more and is not on its way.
Campaigns.prototype._tidy = function () {
  this.shelf.wants = this.shelf.wants.filter(function (want) {
    return want.flying || this._any("wants", want.bundle.sha256);
  }, this);
};

Campaigns.prototype._prefetch = function (lanes, message, nowMs) {
  var shelf = this.shelf;
  var bundle = message.bundle;
  var sha256$1 = bundle.sha256;
  if (message.rev < lanes.contentRev) return;
  if (message.rev > lanes.contentRev) {
    lanes.adopt(message);
    this._tidy();
  } else if (shelf.has(sha256$1) || shelf.wanted(sha256$1)) {
    return; // said again, and it is held or on its way
  } else if (lanes.content === READY) {
    lanes.content = PENDING; // said again, because the cache has lost it
  }
  if ("inline" in bundle && !shelf.has(sha256$1)) {
    if (sha256(bundle.inline) === sha256$1) {
      shelf.hold(sha256$1);
      this.actions.push({ do: "store", sha256: sha256$1, content: bundle.inline });
      this._ready(sha256$1, "inline", 0);
      return;
    }
    this._contentFailed(lanes);
    if (!("url" in bundle)) return;
  }
  var dueMs = instantMs(this._deviceId, message.rev, message.from, message.window_ms, nowMs);
  // An activation may be waiting for this very bundle, with its own plan to get it.
  var awaited = this._any("awaits", sha256$1);
  shelf.want(lanes.campaign, message.rev, lanes.bundle, dueMs, message.from + message.window_ms, awaited);
};

Campaigns.prototype._ready = function (sha256, via, took_ms) {
  this._lanes.forEach(function (lanes) {
    if (lanes.bundle.sha256 !== sha256 || lanes.content === READY) return;
    lanes.content = READY;
    this._report(lanes, lanes.contentRev, "ready", took_ms, via);
    this.actions.push({ do: "prefetched", campaign: lanes.campaign, rev: lanes.contentRev, sha256: sha256, via: via });
  }, this);
};

Campaigns.prototype._contentFailed = function (lanes) {
  if (lanes.content !== PENDING) return;
  lanes.content = FAILED;
  this._report(lanes, lanes.contentRev, "failed");
};

// --- Flips

// Reports what is shown: gateways count by connection, so each new one is told. And what is held, unless it was told.
Campaigns.prototype.resume = function (have) {
  this._lanes.forEach(function (lanes) {
    var sha256 = lanes.bundle.sha256;
    if (lanes.content === READY && this.shelf.has(sha256) && have.indexOf(sha256) < 0) {
      this._report(lanes, lanes.contentRev, "ready", 0, "resume");
    }
    if (lanes.activeRev) this._report(lanes, lanes.activeRev, "active", 0, "resume");
  }, this);
};

// Acts on the activations whose instant has come.
Campaigns.prototype.flip = function (nowMs) {
  this._lanes.forEach(function (lanes) {
    var ripe = lanes.followed().filter(function (a) {
      return a.dueMs <= nowMs + EARLY_MS;
    });
    // The newest decides; an older one is only shown while the newest waits for its bundle.
    for (var i = ripe.length; i--; ) {
      if (this._fire(lanes, ripe[i], nowMs, i === ripe.length - 1)) return;
    }
  }, this);
};

// Acts on an activation whose instant has come; false if it has to wait for its bundle.
Campaigns.prototype._fire = function (lanes, armed, nowMs, newest) {
  var m = armed.message;
  var bundle = m.bundle;
  var via = armed.waiting ? "fetch" : "cache";
  if (!this.shelf.has(bundle)) {
    if (m.miss === "fetch" || !newest) {
      this._miss(lanes, armed, nowMs, newest);
      return false;
    }
    if (m.miss === "silent") {
      lanes.raiseFloor(m.rev);
      this._report(lanes, m.rev, "failed");
      return true;
    }
    bundle = null;
    via = "generic";
  }
  var late_ms = Math.max(0, nowMs - armed.dueMs);
  if (lanes.act(m, bundle)) {
    this.actions.push({
      do: "flip",
      campaign: m.campaign,
      rev: m.rev,
      stage: m.stage,
      bundle: bundle,
      shadow: m.shadow,
      due_ms: armed.dueMs,
      late_ms: late_ms
    });
  }
  this._report(lanes, m.rev, "active", late_ms, via);
  this._tidy();
  return true;
};

Campaigns.prototype._miss = function (lanes, armed, nowMs, fetch) {
  if (armed.waiting) return;
  armed.waiting = true;
  if (!fetch) return;
  var m = armed.message;
  var bundle = lanes.bundle.sha256 === m.bundle ? lanes.bundle : { sha256: m.bundle, bytes: 0 };
  this.shelf.want(m.campaign, m.rev, bundle, Math.floor(nowMs), m.at + m.window_ms, true);
};

Campaigns.prototype._report = function (lanes, rev, kind, ms, via) {
  this.actions.push({
    do: "send",
    message: {
      t: "report",
      campaign: lanes.campaign,
      rev: rev,
      kind: kind,
      ms: Math.floor(ms || 0),
      via: via || "cache"
    }
  });
};

// The server's clock, estimated on a device that trusts only its own monotonic timer. Pure.
//
// A server says "it is `now`" and the device hears it some unknown delay later, so `now - monotonic` is the true offset
// minus that delay. A delay is never negative: the largest sample is the best. Samples age (the two timers drift
// apart), so only the last one to two spans of SPAN samples count, kept as two maxima.
//
// A server clock that steps forward gives a larger sample, believed at once. One that steps back looks like a sudden,
// lasting delay: after STEP_SAMPLES samples in a row more than STEP_MS below the estimate it is believed, too.

// With a beacon every 10 s a span is 80 s: at 100 ppm of drift the estimate is off by at most 16 ms.
var SPAN = 8;
// Larger than the queueing of a bad mobile network, smaller than any step worth making.
var STEP_MS = 1000;
var STEP_SAMPLES = 3;

function ServerClock() {
  // Server's Unix ms minus monotonic ms; nothing is known of it before the first sample.
  this.offsetMs = -Infinity;
  this._begin(-Infinity);
  this._count = 0; // samples in the current span
}

// Begins a span of one sample, and forgets what was before.
ServerClock.prototype._begin = function (offset) {
  this._best = offset; // largest sample of the current span
  this._previous = -Infinity; // largest sample of the span before
  this._count = 1;
  this._low = []; // the samples in a row that look like a step back
};

// Learns from a message that said `now` and arrived at `monoMs`.
ServerClock.prototype.sample = function (now, monoMs) {
  var offset = now - monoMs;
  if (offset < this.offsetMs - STEP_MS) {
    if (this._low.push(offset) >= STEP_SAMPLES) this._begin(Math.max.apply(null, this._low));
  } else {
    this._low = [];
    if (this._count++ >= SPAN) {
      this._previous = this._best;
      this._best = -Infinity;
      this._count = 1;
    }
    this._best = Math.max(this._best, offset);
  }
  this.offsetMs = Math.max(this._best, this._previous);
};

// Is this device connected, may it trust what it has armed, and when does it open its next socket? Pure.
//
// Silence has two stages. After one grace (GRACE_BEACONS beacon periods without any message) the device is in *doubt*:
// a cancel may have passed it by, so nothing armed fires, and it asks with a `sync`. After two, it takes the socket for
// dead and opens another, after a backoff: those who heard the same broadcast last, on a host that died right after it,
// must not come to its neighbours in the same millisecond. The doubt ends with a beacon or a welcome. All instants are monotonic ms.


// Until a welcome says otherwise. What users of such clients are used to: half a second to twenty.
var DEFAULT_RECONNECT = { base_ms: 500, cap_ms: 20000 };
// The server says that the device itself is broken: it waits as long as it may.
var BROKEN_CODES = [1002, 1003, 1007, 1008, 1009];
var BROKEN_STATUSES = [400, 403, 404, 405, 426];
// Without a message for this many beacon periods a device stops trusting what it has armed.
var GRACE_BEACONS = 3;
// Time for a sync's answer on a bad network, after which a socket that may have died in a sleep is replaced.
var ANSWER_MS = 5000;
// Failures in a row after which the span is the longest under any policy.
var LONGEST = 32;

function Liveness(policy) {
  this.policy = policy;
  this.connected = false; // a socket was welcomed and not lost since: at `welcomedMs`; last heard of at `heardMs`
  this.graceMs = 0; // silence that is still no reason for doubt; 0 before the first welcome
  this.doubt = false; // the silence was too long: resync before anything fires
  this.syncing = false; // a sync was sent, its beacon is still to come
  this.reopenMs = Infinity; // when to open the next socket beside this one
  this.attempt = 0; // connections in a row that failed or did not last
}

// Returns when `tick` has something to do, Infinity for never.
Liveness.prototype.nextMs = function () {
  return Math.min(this._quietMs(), this.reopenMs);
};

Liveness.prototype._quietMs = function () {
  if (!this.connected || !this.graceMs || (this.doubt && this.reopenMs < Infinity)) return Infinity;
  return this.heardMs + this.graceMs * (this.doubt ? 2 : 1);
};

// Notes that a message came; true if it ended a silence that was too long and not noticed yet.
Liveness.prototype.hear = function (monoMs) {
  var began = this._tooLong(monoMs);
  this.heardMs = monoMs;
  return began;
};

// Returns whether to ask with a sync now, and whether to open a new socket now.
Liveness.prototype.tick = function (monoMs, random) {
  var ask = this._tooLong(monoMs) && this.connected;
  if (this.doubt && this._quietMs() <= monoMs) {
    this.heardMs = monoMs; // in doubt this only times the next attempt
    this.reopenMs = this.retryMs(monoMs, random);
  }
  var reopen = this.reopenMs <= monoMs;
  if (reopen) this.reopenMs = Infinity;
  return { ask: ask && !reopen, reopen: reopen };
};

// Time has jumped: whatever was said meanwhile was missed. Returns whether to ask with a sync.
Liveness.prototype.distrust = function (monoMs) {
  if (!this.graceMs) return false;
  this.doubt = true;
  this.heardMs = monoMs - 2 * this.graceMs + ANSWER_MS;
  return this.connected;
};

Liveness.prototype._tooLong = function (monoMs) {
  if (this.doubt || !this.graceMs || monoMs < this.heardMs + this.graceMs) return false;
  return (this.doubt = true);
};

// Notes that a socket was welcomed.
Liveness.prototype.welcome = function (message, monoMs) {
  this.policy = message.reconnect;
  this.graceMs = GRACE_BEACONS * message.beacon_s * 1000;
  this.connected = true;
  this.welcomedMs = monoMs;
  this.syncing = false;
  this.reopenMs = Infinity;
};

// Plans to reconnect at a random instant within so many milliseconds.
Liveness.prototype.move = function (within_ms, monoMs, random) {
  this._forgive(monoMs);
  this.reopenMs = Math.min(monoMs + random() * within_ms, this.reopenMs);
};

// Notes that no socket is left.
Liveness.prototype.lose = function (monoMs) {
  this._forgive(monoMs);
  this.connected = this.syncing = false;
  this.reopenMs = Infinity;
};

// A connection that outlived the longest backoff was a good one; a server that welcomes and then closes at once must
// not be asked ever faster.
Liveness.prototype._forgive = function (monoMs) {
  if (this.connected && monoMs - this.welcomedMs >= this.policy.cap_ms) this.attempt = 0;
};

// Returns when to try again after a failure, null for never. `why` may hold a close `code`, an HTTP `status`, and
// `retry_after_ms`, on top of which the jitter comes.
Liveness.prototype.retryMs = function (monoMs, random, why) {
  why = why || {};
  if (why.code >= FINAL_CODE_MIN) return null;
  var broken = BROKEN_CODES.indexOf(why.code) >= 0 || BROKEN_STATUSES.indexOf(why.status) >= 0;
  var attempt = broken ? LONGEST : Math.min(this.attempt, LONGEST);
  this.attempt++;
  // Full jitter over a span that grows exponentially.
  var spanMs = Math.min(this.policy.cap_ms, this.policy.base_ms * Math.pow(2, attempt));
  return monoMs + (why.retry_after_ms || 0) + Math.floor(random() * spanMs);
};

// One device as a pure state machine: what it knows, what is due when, what to do about each event.
//
// It does no I/O, starts no timer and reads no clock. Whoever drives it hands in events with the monotonic time, carries
// out the actions it gets back, in order, and asks `nextDueMs` when to call `due`. Flips, fetches and `reopen` come from
// `due` alone; so after every call, ask `nextDueMs` again. All instants are kept by the server's clock, so a better
// estimate of it moves them all. tests/vectors/device.json says, event by event, what comes back.
//
// The theory is in its parts: lanes.js (which messages count), campaigns.js (what they mean), shelf.js (bundles),
// liveness.js (silence, doubt, backoff) and clock.js.


// Options: `held`, digests of the bundles the driver's cache holds already; `random`, the source of jitter (0 <= x < 1);
// `reconnect`, how to back off until the first welcome says it.
function DeviceMachine(deviceId, options) {
  options = options || {};
  this._random = options.random || Math.random;
  this._clock = new ServerClock();
  this._live = new Liveness(options.reconnect || DEFAULT_RECONNECT);
  this._campaigns = new Campaigns(deviceId, options.held || []);
  this._since = 0; // newest revision received
  this._have = this.held(); // the bundles that the newest connection's query names
}

// --- What a driver may ask

// A socket was welcomed and has not been lost.
DeviceMachine.prototype.connected = function () {
  return this._live.connected;
};

// Digests of the bundles this device counts on.
DeviceMachine.prototype.held = function () {
  return this._campaigns.shelf.held.slice();
};

// Returns [stage, bundle] on the screen for this campaign, null if nothing is.
DeviceMachine.prototype.shown = function (campaign) {
  var lanes = this._campaigns.lanesOf(campaign);
  return lanes && lanes.shown[0] ? lanes.shown.slice(0, 2) : null;
};

// Returns the server's time, Unix ms, as this device estimates it; null before the first welcome.
DeviceMachine.prototype.serverMs = function (monoMs) {
  var nowMs = this._nowMs(monoMs);
  return nowMs > -Infinity ? nowMs : null;
};

// Returns what to put into the query of the connection that is opened now. What is stored between this and its welcome,
// the gateway has not been told: it is reported then.
DeviceMachine.prototype.resume = function () {
  this._have = this.held().slice(-32);
  return { have: this._have, since: this._since };
};

// Returns when to call `due` next, monotonic ms (it may be past); null if nothing is planned.
DeviceMachine.prototype.nextDueMs = function () {
  var at = this.nextMs();
  return at < Infinity ? at : null;
};

// The same, Infinity for never.
DeviceMachine.prototype.nextMs = function () {
  return Math.min(this._campaigns.nextMs(!this._live.doubt) - this._clock.offsetMs, this._live.nextMs());
};

// --- Events

// Takes in a message, as `check` gave it, from any of the device's sockets.
DeviceMachine.prototype.received = function (message, monoMs) {
  var doubtBegan = this._live.hear(monoMs);
  if (message.t === "welcome") {
    this._welcomed(message, monoMs);
  } else if (message.t === "beacon") {
    this._beacon(message, monoMs);
  } else {
    if (doubtBegan) this._sync();
    if (message.t === "reconnect") this._live.move(message.within_ms, monoMs, this._random);
    else if (this.serverMs(monoMs) !== null) this._apply(message, this._nowMs(monoMs));
  }
  return this._told();
};

// Does what has become due.
DeviceMachine.prototype.due = function (monoMs) {
  var live = this._live.tick(monoMs, this._random);
  if (live.ask) this._sync();
  if (!this._live.doubt) this._campaigns.flip(this._nowMs(monoMs));
  this._campaigns.fetch(this._nowMs(monoMs));
  if (live.reopen) this._campaigns.actions.push({ do: "reopen" });
  return this._told();
};

// Takes in that the driver's cache now holds this bundle, its digest checked.
DeviceMachine.prototype.stored = function (sha256, monoMs, via, took_ms) {
  this._campaigns.stored(sha256, via || "fetch", took_ms);
  return this._told();
};

// Takes in that a fetch failed or brought the wrong bytes; it is tried again a few times.
DeviceMachine.prototype.fetchFailed = function (sha256, monoMs, retry_after_ms) {
  var nowMs = this._nowMs(monoMs);
  this._campaigns.fetchFailed(sha256, nowMs, retry_after_ms || 0, this._random);
  return this._told();
};

// Takes in that time has jumped (the device slept, a timer stood still): what is armed waits for a beacon or a welcome.
DeviceMachine.prototype.distrusted = function (monoMs) {
  if (this._live.distrust(monoMs)) this._sync();
  return this._told();
};

// Takes in that the driver's cache no longer holds this bundle.
DeviceMachine.prototype.evicted = function (sha256) {
  this._campaigns.shelf.lose(sha256);
};

// Takes in that there is no socket: the last one was lost, or a new one could not be opened. `why` may hold a close
// `code`, an HTTP `status` and `retry_after_ms`. Returns when to open the next one, monotonic ms; null: never.
DeviceMachine.prototype.disconnected = function (monoMs, why) {
  this._live.lose(monoMs);
  return this._live.retryMs(monoMs, this._random, why);
};

// Takes in that `reopen` failed while the old socket still lives; another comes when it is time.
DeviceMachine.prototype.reopenFailed = function (monoMs, why) {
  var at = this._live.retryMs(monoMs, this._random, why);
  this._live.reopenMs = at === null ? Infinity : at;
};

// --- The connection

// The server's clock; before the first welcome it is infinitely early, so nothing is due.
DeviceMachine.prototype._nowMs = function (monoMs) {
  return monoMs + this._clock.offsetMs;
};

DeviceMachine.prototype._welcomed = function (message, monoMs) {
  this._clock.sample(message.now, monoMs);
  this._live.welcome(message, monoMs);
  this._campaigns.resume(this._have);
  var nowMs = this._nowMs(monoMs);
  message.state.forEach(function (told) {
    this._apply(told, nowMs);
  }, this);
  this._trust(nowMs, true);
};

DeviceMachine.prototype._beacon = function (message, monoMs) {
  this._clock.sample(message.now, monoMs);
  if (message.rev > this._since && !this._live.syncing) {
    this._sync();
    return;
  }
  // Either nothing is missing, or this is the beacon that ends a sync's answer: then whatever there was up to its
  // revision has been said, even if that was nothing for this device.
  this._since = Math.max(this._since, message.rev);
  this._live.syncing = false;
  this._trust(this._nowMs(monoMs), false);
};

DeviceMachine.prototype._sync = function () {
  if (!this._live.connected) return;
  this._live.syncing = true;
  this._campaigns.actions.push({ do: "send", message: { t: "sync", since: this._since } });
};

// Ends the doubt: what became due meanwhile is late, and acts as latecomers do. On a `fresh` connection what had been
// given up gets another chance, too.
DeviceMachine.prototype._trust = function (nowMs, fresh) {
  var doubted = this._live.doubt;
  this._live.doubt = false;
  if (doubted || fresh) this._campaigns.trust(nowMs, doubted);
};

DeviceMachine.prototype._apply = function (message, nowMs) {
  this._since = Math.max(this._since, message.rev);
  this._campaigns.apply(message, nowMs);
};

// Without a socket there is nobody to tell; the next welcome's query and resume reports say it all.
DeviceMachine.prototype._told = function () {
  var live = this._live;
  var actions = this._campaigns.actions;
  this._campaigns.actions = [];
  return actions.filter(function (action) {
    return live.connected || action.do !== "send";
  });
};

// The device's token: from the app, and kept until a gateway refuses it, for fetching one more often than that would
// only make a herd elsewhere. Reads claims, judges no signature: that is the gateway's business.


// What a subprotocol can carry and a JWT is made of. Checked here, because the error of a browser that is given
// anything else would hold the token, and errors are logged.
var TOKEN = /^[\w.~-]+$/;
// Browsers hide the status of a refused handshake, so a refused token looks like a lost network. Asking the app for
// another after every failure would make a gateway's outage one of whoever issues tokens; never asking would lock out
// a device whose token was withdrawn, or whose clock estimate is not there yet to see it expire. So it asks after more
// than this many failures in a row, at every power of two: 8, 16, 32, and the longer an outage lasts, the less.
var BLIND_FAILURES = 4;

function claimsOf(token) {
  try {
    var payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    var claims = JSON.parse(decodeURIComponent(escape(atob(payload)))); // `escape` makes text of UTF-8 bytes
    return typeof claims === "object" && claims ? claims : {};
  } catch (e) {
    return {}; // opaque: then the app has said the device's id
  }
}

function Tokens(getToken) {
  var kept = null;
  var self = this;
  this.claims = {}; // of the last token
  this.blind = 0; // attempts in a row that failed without saying why

  // Calls back once, `done(error)` or `done(null, token)`. `now` is the server's clock, Unix ms; null: not known, and
  // the device's own is not asked, for a TV's may be years off.
  this.get = function (now, done) {
    var takesCallback = getToken.length; // a TV without Promise has nothing else
    function failed(error) {
      if (done) done(error || "no token");
      done = null;
    }
    function got(token) {
      if (!done || (takesCallback && token === undefined)) return;
      if (typeof token !== "string" || !TOKEN.test(token)) return failed("getToken gave no JWT");
      kept = token;
      self.claims = claimsOf(token);
      done(null, token);
      done = null;
    }

    var exp = self.claims.exp;
    if (now !== null && typeof exp === "number" && exp * 1000 <= now) kept = null;
    if (kept) return got(kept);
    try {
      var token = takesCallback ? getToken(got) : getToken();
      if (token && token.then) token.then(got, failed);
      else got(token);
    } catch (e) {
      failed(e);
    }
  };

  // An attempt failed, or a link was lost. If it was for the token, the next `get` asks the app.
  this.refused = function (why) {
    if (why.status === 401 || why.code === 4001 || why.code >= FINAL_CODE_MIN) kept = null;
  };

  // An attempt failed, and its reason may be hidden.
  this.failed = function (why) {
    if (why.status || (why.code && why.code !== 1006)) return;
    var blind = ++self.blind;
    if (blind > BLIND_FAILURES && !(blind & (blind - 1))) kept = null;
  };
}

// Drives one device's state machine on a real network: its sockets, its fetches, its one timer. Decides nothing about
// campaigns, that is machine.js; and knows nothing of the app, which is behind `app`, the cache and the token.
//
// Everything that happens enters through `enter`: it looks at the clocks, does the work, carries out what the machine
// asks for, and sets the timer anew. Nothing that is thrown within leaves it.


// The app's getToken asks a server somewhere.
var TOKEN_MS_MAX = 15000;
// All TVs behind one router, or in one quarter after a power cut, hear "online" together.
var ONLINE_MS = 1000;
// Without a network the attempts are for those TVs that say "offline" and are not.
var OFFLINE_MS = 30000;

// options: as device.js has checked them, with every default filled in. emit(name, event), report(kind, error) and
// log(event, fields) tell the app; none of them throws.
//
// A closure and not a prototype: there is one a page, and what has no name outside is shorter for a TV to load.
function Driver(options, emit, report, log) {
  var running = false;
  var stats = { deviceId: null, received: 0, sent: 0, connections: 0, fetches: 0, flips: 0 };
  var machine = null; // once the device's id is known
  var tokens = new Tokens(options.getToken);
  var live = null; // the newest that was welcomed
  var trying = null; // another that is on its way
  var connectAt = Infinity; // when to open one, monotonic ms
  var heed = false; // a gateway said when to come back
  var offline = false;
  var topicsWelcomed = null; // those of the last token a gateway welcomed
  var muted = []; // topics the app does not listen to
  var stops = {}; // by digest: stops a fetch
  var queue = []; // actions still to be carried out
  var busy = false; // somebody does it already
  var unlisten; // from the page
  var watch = new Watch(options.clock);
  var wake = enter(due);
  var timer = new Timer(options.timers, wake);
  var hooks = {
    online: enter(cameOnline),
    offline: enter(function () {
      offline = true;
    }),
    awake: wake
  };

  this.end = end;
  this.wake = wake;
  this.content = contentOf;
  this.shown = function (campaign) {
    return machine && machine.shown(campaign);
  };
  this.stats = function () {
    stats.held = machine ? machine.held() : [];
    return stats;
  };

  this.start = function () {
    if (running) return;
    running = true;
    offline = false; // unless somebody says so again: nobody listened
    unlisten = listen(hooks);
    watch.begin();
    connectAt = monoMs();
    wake();
  };

  function end(why) {
    if (!running) return;
    var now = monoMs();
    running = false;
    unlisten();
    timer.clear();
    queue = [];
    if (trying) trying.close();
    if (live) live.close();
    trying = live = null;
    connectAt = Infinity;
    if (machine) machine.disconnected(now);
    for (var digest in stops) {
      stops[digest]();
      machine.fetchFailed(digest, now);
    }
    stops = {};
    tellState("ended", why);
  }

  // Sends on the newest link; without one it is lost.
  function send(message) {
    if (!live) return;
    stats.sent++;
    log("sent", message);
    live.send(message);
  }

  // Listens to these topics, or no longer. What is muted stays so on the next connection, too, as far as the token
  // says what its topics are.
  this.listen = function (topics, on) {
    muted = muted.filter(function (topic) {
      return topics.indexOf(topic) < 0;
    });
    if (!on) muted = muted.concat(topics);
    enter(function () {
      send({ t: on ? "subscribe" : "unsubscribe", topics: topics });
    })();
  };

  function contentOf(digest) {
    var content = inCache("get", digest);
    // Ours has checked what it gives. Wrong bytes are never shown, whoever kept them.
    return typeof content === "string" && (options.cache instanceof Cache || sha256(content) === digest)
      ? content
      : null;
  }

  // Returns what the cache answers. It may be the app's own, on a disk that is full: it must not stop the device.
  function inCache(method, first, second) {
    return safely("storage", function () {
      return options.cache[method](first, second);
    });
  }

  function safely(kind, work) {
    try {
      return work();
    } catch (e) {
      report(kind, e);
    }
  }

  // --- Time

  function monoMs() {
    return options.clock.monoMs();
  }

  // Wraps work that begins outside: a timer, a socket, the page, the app. It is given the monotonic time.
  function enter(work) {
    return function (first, second, third) {
      if (!running) return;
      safely("internal", function () {
        work(look(), first, second, third);
      });
      safely("internal", plan);
    };
  }

  // Returns the monotonic time, after telling the machine if time has jumped since the last look.
  function look() {
    var now = monoMs();
    if (watch.jumped()) {
      log("jump");
      if (machine) act(machine.distrusted(now));
    }
    return now;
  }

  function due(now) {
    if (connectAt <= now) {
      connectAt = Infinity;
      open(now);
    }
    if (machine) act(machine.due(now));
  }

  function plan() {
    if (!running) return;
    var at = Math.min(machine ? machine.nextMs() : Infinity, connectAt);
    var now = monoMs();
    watch.dueMs = Math.max(at, now); // what was due before is late since now
    timer.set(at - now);
  }

  // --- The page

  function cameOnline(now) {
    offline = false;
    // The network may be another one, and the socket dead: ask, and replace it if no answer comes.
    if (live) act(machine.distrusted(now));
    if (connectAt < Infinity && !heed) {
      connectAt = Math.min(connectAt, now + options.random() * ONLINE_MS);
    }
  }

  // --- Links

  function open(now) {
    // One at a time: if it fails, what comes next is planned then.
    if (trying) return;
    var attempt = (trying = new Timer(
      options.timers,
      enter(function (now) {
        noToken(now, attempt, "getToken is too slow");
      })
    ));
    attempt.set(TOKEN_MS_MAX);
    if (!live) tellState("connecting", {});
    tokens.get(
      machine && machine.serverMs(now),
      enter(function (now, error, token) {
        if (trying !== attempt) return;
        if (error) noToken(now, attempt, error);
        else connect(now, token);
      })
    );
  }

  function noToken(now, attempt, error) {
    report("token", error);
    failed(now, attempt, { reason: "no token" });
  }

  function connect(now, token) {
    var claims = tokens.claims;
    var id = options.deviceId || claims.sub;
    if (typeof id !== "string" || !id) {
      tokens.refused({ status: 401 });
      return noToken(now, trying, "no sub; give deviceId");
    }
    if (id !== stats.deviceId) become(id);
    var resume = machine.resume();
    var topics = String(claims.topics);
    // Revisions of other topics say nothing about what is missing of these.
    if (topicsWelcomed !== null && topics !== topicsWelcomed) resume.since = 0;
    log("open", resume);
    if (!running) return; // the app has closed it, here or when it was told that the cache fails
    trying.close(); // not sooner: should anything before have thrown, this tries again
    trying = null;
    safely("socket", function () {
      trying = new Link(options, resume, token, {
        message: enter(function (now, link, message) {
          if (message.t === "welcome" && link !== live) welcomed(link, message, topics);
          // What comes before a welcome counts for nothing; nor does what comes to an app that has closed meanwhile.
          if (link === live) take(now, message);
        }),
        bad: enter(function (now, error) {
          report("message", error);
        }),
        over: enter(function (now, link, why) {
          if (link !== live) return failed(now, link, why);
          live = null;
          lost(now, why);
        })
      });
    });
    if (!trying) failed(now, null, { reason: "no WebSocket" });
  }

  // Another id has other slots, and nothing that was known counts for it.
  function become(id) {
    if (live) live.close();
    live = topicsWelcomed = null;
    stats.deviceId = id;
    machine = new DeviceMachine(id, { held: inCache("digests"), random: options.random });
  }

  function welcomed(link, message, topics) {
    var old = live;
    live = link;
    trying = null;
    connectAt = Infinity;
    tokens.blind = 0;
    heed = offline = false;
    topicsWelcomed = topics;
    stats.connections++;
    // The new one holds; now the old one may break.
    if (old) old.close();
    tellState("connected", { session: message.session });
  }

  function take(now, message) {
    stats.received++;
    log("received", { t: message.t, campaign: message.campaign, rev: message.rev });
    act(machine.received(message, now));
    var wanted = options.topics;
    var topics = tokens.claims.topics;
    if (message.t !== "welcome" || !Array.isArray(topics)) return;
    // A connection begins with all topics of the token.
    topics = topics.filter(function (topic) {
      return muted.indexOf(topic) >= 0 || (wanted && wanted.indexOf(topic) < 0);
    });
    if (topics.length) send({ t: "unsubscribe", topics: topics });
  }

  // An attempt came to nothing.
  function failed(now, attempt, why) {
    if (trying !== attempt) return;
    if (attempt) attempt.close();
    trying = null;
    tokens.failed(why);
    if (!live) return lost(now, why);
    tokens.refused(why);
    log("reopen failed", why);
    machine.reopenFailed(now, why);
  }

  // There is no link any more, or still none.
  function lost(now, why) {
    tokens.refused(why);
    // Nothing but the backoff is known of a device that could not read its first token.
    if (!machine) machine = new DeviceMachine("", { random: options.random });
    var at = machine.disconnected(now, why);
    if (at === null) return end(why);
    if (offline) at += OFFLINE_MS * (1 + options.random());
    heed = why.retry_after_ms > 0;
    connectAt = at;
    why.retry_in_ms = at - now;
    tellState("waiting", why);
  }

  function tellState(state, event) {
    event.state = state;
    emit("onState", event);
  }

  // --- Actions

  function act(actions) {
    if (!running) return; // a callback may have closed it
    queue = queue.concat(actions);
    // A callback of the app may cause more: that is done after what is under way.
    if (busy) return;
    busy = true;
    while (queue.length) safely("internal", carryOut);
    busy = false;
  }

  function carryOut() {
    var action = queue.shift();
    DO[action.do](action);
  }

  function keep(digest, content) {
    (inCache("put", digest, content) || []).forEach(function (gone) {
      machine.evicted(gone);
    });
  }

  function tell(name) {
    return function (action) {
      delete action.do;
      emit(name, action);
    };
  }

  var DO = {
    prefetched: tell("onPrefetched"),
    cancelled: tell("onCancel"),
    closed: tell("onClose"),
    send: function (action) {
      send(action.message);
    },
    reopen: function () {
      open(monoMs());
    },
    store: function (action) {
      keep(action.sha256, action.content);
    },
    drop: function (action) {
      inCache("drop", action.digests);
    },
    flip: function (action) {
      action.content = action.bundle && contentOf(action.bundle);
      if (action.bundle && action.content === null) {
        // Better the app's generic presentation at the right moment than nothing.
        machine.evicted(action.bundle);
        report("storage", "gone: " + action.bundle);
      }
      if (!action.shadow) stats.flips++;
      tell(action.shadow ? "onRehearse" : "onActivate")(action);
    },
    fetch: function (action) {
      var digest = action.bundle.sha256;
      var began = monoMs();
      stats.fetches++;
      log("fetch", action);
      stops[digest] = get(
        options,
        action.bundle,
        enter(function (now, error, content, retry_after_ms) {
          delete stops[digest];
          if (error) {
            report("fetch", error);
            act(machine.fetchFailed(digest, now, retry_after_ms));
          } else {
            keep(digest, content);
            act(machine.stored(digest, now, "fetch", now - began));
          }
        })
      );
    }
  };
}

// `Device`, what an app uses: its options, its callbacks, its errors and its log. Sockets, fetches and time are the
// business of driver.js.
//
// Wrong options throw here, at once. After that nothing is thrown into the app.


// Errors come in floods, and somebody pays for the log.
var DETAIL_CHARS_MAX = 300;
// Of one kind. Whoever watches a counter sees it move; a gateway that sends rubbish must not take the app's time.
var TELL_EVERY_MS = 1000;

// --- Options

// What an option may be: something whose JSON looks like this, or that has these methods. A function can be called.
var FUNCTION = ["call"];
var OPTIONS = {
  url: /^"wss?:\/\/[^\/?#\s]+(\/[^?#\s]*)?"$/i,
  originUrl: /^"https?:\/\/[^\/?#\s"]+/i,
  deviceId: /^".{1,128}"$/,
  topics: /^\[("[a-z0-9][\w.:-]{0,63}",?){1,16}\]$/,
  codec: ["encode", "decode"],
  cache: ["digests", "get", "put", "drop"],
  storage: ["getItem", "setItem", "removeItem", "key"],
  clock: ["monoMs", "wallMs"],
  timers: ["set", "clear"]
};
"getToken WebSocket fetch random onPrefetched onActivate onRehearse onCancel onClose onState onError onLog"
  .split(" ")
  .forEach(function (name) {
    OPTIONS[name] = FUNCTION;
  });

function isFunction(value) {
  return typeof value === "function";
}

function fits(rule, value) {
  if (rule.test) return rule.test(JSON.stringify(value));
  return (
    value &&
    rule.every(function (method) {
      return isFunction(value[method]);
    })
  );
}

function wrong(name, value, rule) {
  var send = rule === FUNCTION ? "a function" : rule.every ? "methods " + rule : rule;
  var shown = isFunction(value) ? "a function" : JSON.stringify(value);
  return new TypeError(name + " is " + String(shown).slice(0, 99) + "; send " + send);
}

function check(given) {
  ["url", "getToken"].concat(Object.keys(given)).forEach(function (name, at) {
    var value = given[name];
    if (!OPTIONS.hasOwnProperty(name)) throw wrong("option", name, "one of " + Object.keys(OPTIONS));
    if (at > 1 && (value === undefined || (name === "storage" && value === null))) return;
    if (!fits(OPTIONS[name], value)) throw wrong(name, value, OPTIONS[name]);
  });
}

// Reading the property alone throws where the user forbids storage.
function pageStorage(onError) {
  try {
    return typeof document === "undefined" ? null : window.localStorage;
  } catch (e) {
    onError(e);
    return null;
  }
}

// What the app has given, and every default.
function complete(given, onError) {
  var options = {
    originUrl: given.url.replace(/^ws/i, "http"),
    WebSocket: typeof WebSocket === "undefined" ? undefined : WebSocket,
    clock: systemClock,
    timers: systemTimers,
    random: Math.random
  };
  for (var name in given) if (given[name] !== undefined) options[name] = given[name];
  options.url = given.url.replace(/^(\w+:\/\/[^\/]+)\/?$/, "$1/v1/connect");
  if (!options.WebSocket) throw wrong("WebSocket", undefined, "a function");
  if (!options.cache) {
    options.cache = new Cache({
      storage: options.storage === undefined ? pageStorage(onError) : options.storage,
      wallMs: options.clock.wallMs,
      onError: onError
    });
  }
  return options;
}

// --- The device

function Device(given) {
  check(given);
  var state = "ended";
  var errors = {}; // counts by kind
  var told = {}; // when onError was last called, by kind
  var driver = new Driver(complete(given, failed("storage")), emit, report, log);

  this.start = driver.start;

  this.close = function () {
    driver.end({ reason: "closed" });
  };

  // "connecting", "connected", "waiting" (for the next attempt) or "ended" (not started, closed, or sent away for good).
  this.state = function () {
    return state;
  };

  // [stage, bundle] on the screen for this campaign, null if nothing is.
  this.shown = driver.shown;

  // The text of a bundle that is held, null if it is not.
  this.content = driver.content;

  // The TV woke, or the app came back to the screen, in a way the page is not told of: do at once what is due.
  this.wake = driver.wake;

  this.subscribe = listener(true);
  this.unsubscribe = listener(false);

  this.stats = function () {
    var stats = driver.stats();
    stats.errors = errors;
    return JSON.parse(JSON.stringify(stats)); // a copy
  };

  function listener(on) {
    return function (topics) {
      if (fits(OPTIONS.topics, topics)) driver.listen(topics, on);
      else report("topics", wrong("topics", topics, OPTIONS.topics));
    };
  }

  // --- What the app is told

  function emit(name, event) {
    if (name === "onState") state = event.state;
    log(name, event);
    call(name, event, failed("callback"));
  }

  function call(name, event, fail) {
    try {
      var result = given[name] && given[name](event);
      if (result && result.then) result.then(null, fail);
    } catch (e) {
      fail(e);
    }
  }

  function failed(kind) {
    return function (error) {
      report(kind, error);
    };
  }

  function count(kind) {
    return (errors[kind] = (errors[kind] || 0) + 1);
  }

  function report(kind, error) {
    var detail = String((error && error.message) || error).slice(0, DETAIL_CHARS_MAX);
    var event = { kind: kind, detail: detail, count: count(kind) };
    var now = Date.now();
    log("error", event);
    // By a clock that cannot throw; one that is set back tells once more.
    if (Math.abs(now - told[kind]) < TELL_EVERY_MS) return;
    told[kind] = now;
    quietly("onError", event);
  }

  // What fails here has nowhere to be told but in the counts.
  function quietly(name, event) {
    call(name, event, function () {
      count("callback");
    });
  }

  function log(event, fields) {
    if (!given.onLog) return;
    var entry = { at: Date.now(), event: event };
    for (var name in fields) if (name !== "content") entry[name] = fields[name];
    quietly("onLog", entry);
  }
}

export { Cache, Device, DeviceMachine, check$1 as check, sharePoint, slotMs };
