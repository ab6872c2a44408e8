// The device's token: from the app, and kept until a gateway refuses it, for fetching one more often than that would
// only make a herd elsewhere. Reads claims, judges no signature: that is the gateway's business.

// What a subprotocol can carry and a JWT is made of. Checked here, because the error of a browser that is given
// anything else would hold the token, and errors are logged.
var TOKEN = /^[\w.~-]+$/;

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

  // The next `get` asks the app.
  this.refused = function () {
    kept = null;
  };
}
