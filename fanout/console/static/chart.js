// The plot of a flight that grows, and that follows the size of the page and its theme.

import uPlot from "/static/vendor/uplot-1.6.32.esm.js";
import { plotFlight } from "/static/flight-plot.js";

export class FlightChart {
  #element; #flight = null; #plot = null; #width = 0;

  constructor(element) {
    this.#element = element;
    new ResizeObserver(() => { if (element.clientWidth !== this.#width) this.#draw(); }).observe(element);
    document.addEventListener("theme", () => this.#draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Show a flight record, or what looks like one. */
  show(flight) {
    this.#flight = flight;
    this.#draw();
  }

  #draw() {
    if (!this.#flight) return;
    this.#width = this.#element.clientWidth;
    this.#plot?.destroy();
    this.#plot = plotFlight(uPlot, this.#element, this.#flight);
  }
}
