// What is seen of a flip: a panel over the TV that turns away and fades, while the screen below shows the new stage
// already. The panels lie above the whole wall, so that nothing but them moves and the wall is not put together anew for
// each: with the TVs themselves animated, 200 of them took the browser 20 ms a frame.

const TURN_MS = 450;
const TURN = [
  { transform: "perspective(60rem) rotateX(0) scale(1.05)", opacity: 0.9 },
  { transform: "perspective(60rem) rotateX(-60deg) scale(1.05)", opacity: 0.6, offset: 0.6 },
  { transform: "perspective(60rem) rotateX(-88deg)", opacity: 0 },
];
// At a window of five seconds 200 TVs turn 25 at a time. When more turn at once, nobody can follow one.
const PANELS = 40;
// Asking it at each flip would have the browser work out every style first.
const reduced = matchMedia("(prefers-reduced-motion: reduce)");
let still = reduced.matches;
reduced.addEventListener("change", () => { still = reduced.matches; });

export class Turns {
  #place; #free = []; #waiting = [];

  /**
   * @param {HTMLElement} stage lies over the wall, and is positioned as it is
   * @param {(tile: HTMLElement) => {left: number, top: number, width: number, height: number}} place
   */
  constructor(stage, place) {
    this.#place = place;
    for (let made = 0; made < PANELS; made += 1) {
      const panel = document.createElement("span");
      panel.className = "panel";
      stage.append(panel);
      this.#free.push(panel);
    }
  }

  /** Turn a panel away from a TV, with the next frame. */
  turn(tile, look) {
    if (still || document.hidden) return;
    this.#waiting.push([tile, look]);
    if (this.#waiting.length === 1) requestAnimationFrame(() => this.#begin());
  }

  #begin() {
    for (const [tile, look] of this.#waiting.splice(0)) {
      const panel = this.#free.pop();
      if (!panel) continue;
      panel.dataset.look = look;
      for (const [name, value] of Object.entries(this.#place(tile))) panel.style[name] = `${value}px`;
      panel.animate(TURN, { duration: TURN_MS, easing: "ease-out" }).onfinish = () => this.#free.push(panel);
    }
  }
}
