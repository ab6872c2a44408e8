// A page's app: holds the devices a test asks for, and writes down everything they tell it and everything that was
// thrown. Knows no campaign.

(function () {
  // Of the machine, whatever a test makes of Date later: the instants here are compared with the server's.
  var wallMs = window.trueNow || Date.now.bind(Date);
  var CALLBACKS = ["onPrefetched", "onActivate", "onRehearse", "onCancel", "onClose", "onState", "onError"];
  var devices = {};
  var seen = [];
  var opened = [];
  var heard = {};
  var waits = [];
  var faults = [];

  window.addEventListener("error", function (event) {
    faults.push(String(event.message));
  });
  window.addEventListener("unhandledrejection", function (event) {
    faults.push("unhandled: " + event.reason);
  });

  function count(what) {
    return seen.filter(function (event) {
      return event.what === what || event.state === what;
    }).length;
  }

  function note(id, what, told) {
    var event = { device: id, what: what, at: wallMs(), visible: document.visibilityState };
    for (var name in told) if (name !== "content") event[name] = told[name];
    if (told.content) {
      event.chars = told.content.length;
      try {
        event.title = JSON.parse(told.content).stages[told.stage].title;
      } catch (e) {
        // A hostile gateway's stage is in no bundle, and this is no fault of the SDK.
      }
    }
    seen.push(event);
    waits = waits.filter(function (wait) {
      if (count(wait.what) < wait.most) return true;
      wait.done();
    });
  }

  function hold(wanted) {
    var options = { url: wanted.url, originUrl: wanted.originUrl };
    ["storage", "topics"].forEach(function (name) {
      if (name in wanted) options[name] = wanted[name];
    });
    options.getToken = function () {
      return wanted.token;
    };
    if (wanted.msgpack) {
      options.codec = {
        subprotocol: "fanout.v1.msgpack",
        encode: MessagePack.encode,
        decode: MessagePack.decode
      };
    }
    CALLBACKS.forEach(function (what) {
      options[what] = function (told) {
        note(wanted.name, what, told);
        if (wanted.throws) throw new Error("the app's own, in " + what);
        if (wanted.rejects) return Promise.reject(new Error("the app's own, in " + what));
      };
    });
    options.onLog = function (entry) {
      if (entry.event === "open") opened.push(entry);
      // onError is told once a second; the log misses none.
      if (entry.event === "error") note(wanted.name, "error", entry);
      if (entry.event === "received" && entry.rev > heard[wanted.name]) heard[wanted.name] = entry.rev;
    };
    heard[wanted.name] = 0;
    devices[wanted.name] = new Fanout.Device(options);
    devices[wanted.name].start();
  }

  window.home = {
    hold: function (list) {
      list.forEach(hold);
    },
    // Resolves once this was told that often (a callback's name, or a state), of all devices together.
    reached: function (what, most) {
      return new Promise(function (resolve) {
        if (count(what) >= most) resolve();
        else waits.push({ what: what, most: most, done: resolve });
      });
    },
    count: count,
    // What was told; with a name, of that callback alone.
    seen: function (what) {
      return seen.filter(function (event) {
        return !what || event.what === what;
      });
    },
    opened: function () {
      return opened;
    },
    // The oldest of the newest revisions that each device has received.
    heard: function () {
      var all = [];
      for (var name in heard) all.push(heard[name]);
      return Math.min.apply(null, all);
    },
    faults: function () {
      return faults;
    },
    stats: function () {
      var all = {};
      for (var name in devices) all[name] = devices[name].stats();
      return all;
    },
    shown: function (campaign) {
      var all = {};
      for (var name in devices) all[name] = devices[name].shown(campaign);
      return all;
    }
  };
})();
