// The cable between a device and its gateway: a WebSocket that somebody can pull out of the wall and put back.
//
// The sockets are real. While the plug is out, the one that was open is gone without a word, as it is for a TV
// whose cable is pulled, and a new one fails at once.

const LOST = { code: 1006, reason: "", wasClean: false };

export class Cable {
  #ends = new Set(); #out = false;

  /** Return the constructor that the device makes its sockets with. */
  get WebSocket() {
    const cable = this;
    return function PluggedSocket(url, protocols) { return cable.#open(url, protocols); };
  }

  get out() { return this.#out; }

  pull() {
    this.#out = true;
    for (const end of [...this.#ends]) end.lose();
  }

  put() { this.#out = false; }

  #open(url, protocols) {
    const end = new End(this.#out ? null : new WebSocket(url, protocols), () => this.#ends.delete(end));
    this.#ends.add(end);
    return end;
  }
}

// What the device holds: the part of a WebSocket that a device needs.
class End {
  onopen = null; onmessage = null; onerror = null; onclose = null;
  #socket; #gone; #closed = false; #type = "blob";

  constructor(socket, gone) {
    this.#socket = socket;
    this.#gone = gone;
    if (!socket) { setTimeout(() => this.lose(), 0); return; }
    socket.onopen = (event) => this.onopen?.(event);
    socket.onmessage = (event) => this.onmessage?.(event);
    socket.onerror = (event) => this.onerror?.(event);
    socket.onclose = (event) => this.#end(event);
  }

  get readyState() { return this.#closed ? 3 : this.#socket?.readyState ?? 0; }
  get protocol() { return this.#socket?.protocol ?? ""; }
  get bufferedAmount() { return this.#socket?.bufferedAmount ?? 0; }
  get binaryType() { return this.#socket?.binaryType ?? this.#type; }
  set binaryType(type) { this.#type = type; if (this.#socket) this.#socket.binaryType = type; }

  send(data) { this.#socket?.send(data); }
  close(code, reason) { this.#socket?.close(code, reason); }

  /** End as a socket does whose network is gone. */
  lose() {
    if (this.#closed) return;
    const socket = this.#socket;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
      socket.close();
    }
    this.onerror?.({ type: "error" });
    this.#end(LOST);
  }

  #end(event) {
    if (this.#closed) return;
    this.#closed = true;
    this.#gone();
    this.onclose?.(event);
  }
}
