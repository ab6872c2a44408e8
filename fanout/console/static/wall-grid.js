// Where the tiles stand: as many columns as make them fill the screen best, and the keys that move among them.

const TV = 16 / 9;
// How much worse one empty place is than a tile of another shape; found by looking.
const EMPTY = 1;
// Below this width, px, a TV has no room for its title: only the badge can be read.
const TINY = 72;
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** Return how many columns fill a width and a height best with so many tiles. */
export function columns(tiles, width, height) {
  let best = 1;
  let least = Infinity;
  for (let each = 1; each <= tiles; each += 1) {
    const rows = Math.ceil(tiles / each);
    const shape = Math.abs(Math.log(width / each / (height / rows) / TV));
    const worse = shape + (EMPTY * (each * rows - tiles)) / each;
    if (worse < least) { least = worse; best = each; }
  }
  return best;
}

export class Grid {
  #element; #tiles; #columns = 1; #places = new Map();

  constructor(element, tiles) {
    this.#element = element;
    this.#tiles = tiles;
    element.replaceChildren(...tiles);
    tiles.forEach((tile, index) => { tile.tabIndex = index ? -1 : 0; });
    element.addEventListener("keydown", (event) => this.#key(event));
    element.addEventListener("focusin", (event) => this.#hold(event.target.closest(".tile")));
    new ResizeObserver(() => this.#place()).observe(element);
  }

  /** Return where a tile stands; measured when the wall changes its size, for to measure it stops everything else. */
  place(tile) { return this.#places.get(tile); }

  #place() {
    const { clientWidth: width, clientHeight: height } = this.#element;
    if (!width || !height) return;
    const across = columns(this.#tiles.length, width, height);
    this.#columns = across;
    this.#element.style.setProperty("--columns", across);
    const down = Math.ceil(this.#tiles.length / across);
    this.#element.style.setProperty("--rows", down);
    const room = Math.min(width / across, (height / down) * TV);
    this.#element.style.setProperty("--tile", `${Math.floor(room)}px`);
    this.#element.dataset.size = room < TINY ? "tiny" : "full";
    for (const tile of this.#tiles) {
      this.#places.set(tile, { left: tile.offsetLeft, top: tile.offsetTop, width: tile.offsetWidth, height: tile.offsetHeight });
    }
  }

  // One tile can be reached with Tab; arrows move from there.
  #hold(tile) {
    if (!tile) return;
    for (const each of this.#tiles) each.tabIndex = each === tile ? 0 : -1;
  }

  #key(event) {
    const at = this.#tiles.indexOf(event.target.closest(".tile"));
    const steps = { ...STEPS, ArrowUp: -this.#columns, ArrowDown: this.#columns };
    if (at < 0 || !Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const last = this.#tiles.length - 1;
    const to = at + steps[event.key];
    if (Math.abs(steps[event.key]) === this.#columns && (to < 0 || to > last)) return;
    this.#tiles[Math.min(last, Math.max(0, to))].focus();
  }
}
