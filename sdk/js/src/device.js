// `Device`, what an app uses: its options, its callbacks, its errors and its log. Sockets, fetches and time are the
// business of driver.js.
//
// Wrong options throw here, at once. After that nothing is thrown into the app.

import { Cache } from "./cache.js";
import { Driver } from "./driver.js";
import { systemClock, systemTimers } from "./time.js";

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

export function Device(given) {
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
