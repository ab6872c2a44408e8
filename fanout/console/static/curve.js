// The flip curve: before a press as forecast, from the press on as forecast then and as it comes, second by second.

import { FlightChart } from "/static/chart.js";

export class Curve {
  #element; #chart; #words; #path; #rehearsal; #rev = 0; #flight = null; #asking = false;

  constructor(element, words, path, rehearsal) {
    this.#element = element;
    this.#chart = new FlightChart(element);
    this.#words = words;
    this.#path = path;
    this.#rehearsal = rehearsal;
  }

  /** Show what a press now would do, as long as there is no flight to show. */
  expect(found) {
    if (this.#rev) return;
    this.#chart.show({ forecast: found, samples: [], shadow: this.#rehearsal });
  }

  /** Take in how the fleet is now. */
  point(point) {
    const { activation } = point;
    if (!activation || !activation.rev) { this.#rev = 0; this.#flight = null; return; }
    if (activation.rev !== this.#rev || !this.#flight) { this.#begin(activation); return; }
    const second = Math.floor((point.now - activation.at) / 1000);
    const last = this.#flight.samples.at(-1);
    const over = activation.window_ms / 1000 + 60;
    if (second < -5 || second > over || (last && last.second >= second)) return;
    this.#flight.samples.push({ second, active: point.active });
    this.#show();
    this.#say(activation);
  }

  // What was before this page was opened is in the record; the recorder begins it within a second or two.
  async #begin(activation) {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const answer = await fetch(`${this.#path}/flights/${activation.rev}`);
      if (!answer.ok) return;
      this.#flight = await answer.json();
      this.#rev = activation.rev;
      this.#show();
      this.#say(activation);
    } catch { /* the next point asks again */ } finally {
      this.#asking = false;
    }
  }

  // The figure the curve ends at is there to be read as well, not only drawn.
  #show() {
    this.#element.dataset.active = this.#flight.samples.at(-1)?.active ?? 0;
    this.#chart.show(this.#flight);
  }

  #say(activation) {
    const words = `${activation.retracts ? "Back to" : "To"} ${activation.stage.toUpperCase()}, over ${activation.window_ms / 1000} s: forecast of the press, and what came.`;
    if (this.#words.textContent !== words) this.#words.textContent = words;
  }
}
