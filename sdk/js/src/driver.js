// Drives one device's state machine on a real network: its sockets, its fetches, its one timer. Decides nothing about
// campaigns, that is machine.js; and knows nothing of the app, which is behind `app`, the cache and the token.
//
// Everything that happens enters through `enter`: it looks at the clocks, does the work, carries out what the machine
// asks for, and sets the timer anew. Nothing that is thrown within leaves it.

import { Cache } from "./cache.js";
import { listen } from "./hooks.js";
import { Link } from "./link.js";
import { DeviceMachine } from "./machine.js";
import { get } from "./origin.js";
import { sha256 } from "./sha256.js";
import { Timer, Watch } from "./time.js";
import { Tokens } from "./tokens.js";

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
export function Driver(options, emit, report, log) {
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
  }
}
