// Where bundles are kept: in memory, and behind that in a storage like localStorage, which outlives the page.
//
// What this page counts on is in memory, so neither a full storage, nor another tab that makes room, nor anybody else
// who writes there can take away what a flip needs. The storage is read once, at the start, and every digest is
// checked then. It holds one key a bundle, `fanout:<sha256>`, with the instant of its last use before the content.
// There is no index: it would have to be mended where tabs of one origin write it at the same time.

import { sha256 } from "./sha256.js";

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
export function Cache(options) {
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
