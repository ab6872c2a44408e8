// Fetching a bundle: from its own URL, or from the usual path on the origin. The digest decides, not the sender. Knows
// nothing of retries: the machine plans those.
//
// XMLHttpRequest is asked before fetch: every browser has it, and even the oldest can be stopped and tells how much
// has come. A fetch the app brings is asked before both.

import { sha256 } from "./sha256.js";
import { Timer } from "./time.js";
import { utf8 } from "./utf8.js";

// A slow mobile network moves the largest bundle in this time. Over all of it: an origin that drips is one that fails.
var FETCH_MS_MAX = 30000;
// Wire version 1 knows no larger one.
var BUNDLE_BYTES_MAX = 1024 * 1024;

// Whoever asks for more has a mistake in a configuration. A TV that keeps away for a day has missed the evening.
var RETRY_AFTER_MS_MAX = 3600000;

// A Retry-After header in ms, 0 if there is none or it is a date: that needs a wall clock, which a TV does not have.
export function retryAfterMs(value) {
  return /^\d+$/.test(value) ? Math.min(value * 1000, RETRY_AFTER_MS_MAX) : 0;
}

// Calls back once, `done(null, content)` or `done(error, null, retry_after_ms)`; returns a function that stops it.
// options: originUrl, fetch, timers.
export function get(options, bundle, done) {
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
