// What the control plane says of campaigns, asked for once each, however many devices hear of them: the title, whether
// it is a rehearsal, and where the window of an activation lies. Devices know none of this but the last, and need none.

export class Campaigns {
  #known = new Map(); #asked = new Map(); #changed;

  /** @param {() => void} changed is called when something became known */
  constructor(changed) { this.#changed = changed; }

  /** Return `{id, title, shadow}`, null while it is not known; asks for it then. */
  of(id) {
    if (!this.#known.has(id)) {
      this.#known.set(id, null);
      this.#ask(id);
    }
    return this.#known.get(id);
  }

  /** Return a promise of the activation of this revision, or of null. */
  activation(id, rev) {
    if (!this.#asked.has(rev)) this.#asked.set(rev, this.#ask(id).then((told) => (told?.activation?.rev === rev ? told.activation : null)));
    return this.#asked.get(rev);
  }

  async #ask(id) {
    try {
      const answer = await fetch(`/v1/campaigns/${encodeURIComponent(id)}`);
      if (!answer.ok) return null;
      const told = await answer.json();
      this.#known.set(id, told);
      this.#changed();
      return told;
    } catch {
      return null; // the wall goes on without a title: its devices do not need the control plane
    }
  }
}
