// One WebSocket: opens it, reads and writes messages, says once why it ended. Knows nothing of when or why to open one.
//
// In browsers a refused handshake tells neither its status nor its Retry-After. A WebSocket that can be asked, as
// Node's `ws`, emits "unexpected-response", and then both are known.

import { retryAfterMs } from "./origin.js";
import { Timer } from "./time.js";
import { check, decode, MESSAGE_CHARS_MAX } from "./wire.js";

// From the first packet to the welcome. A gateway under load takes its time, a dead one for ever.
var OPEN_MS_MAX = 15000;

// options: url, WebSocket, codec, timers. resume: as the machine gave it. on: message(link, message), bad(error), over(link, why), this one once and last.
export function Link(options, resume, token, on) {
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
      message = codec ? check(codec.decode(new Uint8Array(data))) : decode(data);
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
