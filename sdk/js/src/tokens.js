// The device's token: from the app, and kept until a gateway refuses it, for fetching one more often than that would
// only make a herd elsewhere. Reads claims, judges no signature: that is the gateway's business.

import { FINAL_CODE_MIN } from "./wire.js";

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

export function Tokens(getToken) {
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
