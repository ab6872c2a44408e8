// The flip curve: how many have flipped, over the window of the activation, with the straight line of a perfect spread.

const FRAME_MS = 66; // fifteen a second: it is a curve to look at, beside tiles that move
const PAD = 3;
const OPENED_MS = 2000; // no TV is so late: a wall whose first flip is, was opened afterwards
const AFTER_MS = 5000; // the longest catch-up of a device that learns of a window when it is over

export class Curve {
  #canvas; #words; #total; #rev = 0; #flips = []; #flipped = new Set(); #window = null; #timer = null; #stage = "";

  constructor(canvas, words, total) {
    this.#canvas = canvas;
    this.#words = words;
    this.#total = total;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  /** Take in a flip. `ask` returns a promise of `{at, window_ms}` of its activation, or of null. */
  flip(id, { rev, stage, at_ms }, ask) {
    if (rev < this.#rev) return;
    if (rev > this.#rev) this.#begin(rev, stage, ask);
    if (this.#flipped.has(id)) return;
    this.#flipped.add(id);
    this.#flips.push(at_ms);
    this.#soon();
  }

  async #begin(rev, stage, ask) {
    this.#rev = rev;
    this.#stage = stage;
    this.#flips = [];
    this.#flipped.clear();
    this.#window = null;
    const found = await ask();
    if (rev === this.#rev && found) { this.#window = found; this.#soon(); }
  }

  #soon() {
    this.#timer ??= setTimeout(() => { this.#timer = null; this.#draw(); }, FRAME_MS);
  }

  #draw() {
    const canvas = this.#canvas;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const flips = this.#flips;
    // A wall that was opened after the window shows how it caught up.
    const late = this.#window && flips.length && flips[0] > this.#window.at + this.#window.window_ms + OPENED_MS;
    const window_ms = late ? 0 : this.#window?.window_ms ?? 0;
    const begin = late ? flips[0] : this.#window?.at ?? flips[0] ?? 0;
    // Latecomers make the axis longer, within reason: beyond, they pile up at its end.
    const span = Math.max(window_ms, Math.min((flips.at(-1) ?? 0) - begin, 2 * window_ms + AFTER_MS), 1000);
    const x = (at_ms) => PAD + Math.min(1, (at_ms - begin) / span) * (width - 2 * PAD);
    const y = (count) => height - PAD - (count / this.#total) * (height - 2 * PAD);
    this.#frame(pen, x, y, begin, window_ms, width, height);
    if (flips.length) {
      this.#line(pen, x, y, begin, flips, height);
      const how = late ? "caught up with it" : `over ${Math.round((window_ms || span) / 100) / 10} s`;
      this.#words.textContent = `${flips.length} of ${this.#total} to ${this.#stage.toUpperCase()}, ${how}`;
    }
  }

  #frame(pen, x, y, begin, window_ms, width, height) {
    pen.strokeStyle = "#2b3646";
    pen.lineWidth = 1;
    pen.beginPath();
    for (const part of [0, 0.5, 1]) {
      const level = Math.round(y(part * this.#total)) + 0.5;
      pen.moveTo(PAD, Math.min(height - 0.5, level));
      pen.lineTo(width - PAD, Math.min(height - 0.5, level));
    }
    pen.stroke();
    if (!window_ms) return;
    pen.strokeStyle = "#8595a8";
    pen.setLineDash([2, 4]);
    pen.beginPath();
    pen.moveTo(x(begin), y(0));
    pen.lineTo(x(begin + window_ms), y(this.#total));
    pen.stroke();
    pen.setLineDash([]);
  }

  #line(pen, x, y, begin, flips, height) {
    pen.beginPath();
    pen.moveTo(x(begin), y(0));
    flips.forEach((at_ms, index) => { pen.lineTo(x(at_ms), y(index)); pen.lineTo(x(at_ms), y(index + 1)); });
    pen.strokeStyle = "#ff5a6a";
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(x(flips.at(-1)), height - PAD);
    pen.lineTo(x(begin), height - PAD);
    pen.closePath();
    pen.fillStyle = "#ff5a6a33";
    pen.fill();
  }
}
