// What a screen shows of a bundle's stage. Bundles are any JSON that somebody wrote: what is not known is shown as
// text, what is missing is left out, and nothing in it can be more than text.

const TITLE_CHARS_MAX = 120;
const BADGE_CHARS_MAX = 14;
const TITLES = ["title", "headline", "name", "text"];
const BADGES = ["badge", "label"];
const LOOKS = { upcoming: "upcoming", live: "live", ended: "ended" };

/** Return a bundle's text, or what was read of it, as an object; null if it is none. */
export function parsed(content) {
  try {
    const found = typeof content === "string" ? JSON.parse(content) : content;
    return found && typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

/** Return `{look, badge, title, layout}` for a stage of a bundle, whatever is in it. */
export function screen(content, stage) {
  const name = String(stage);
  const found = parsed(content);
  const stages = found?.stages;
  const own = stages && typeof stages === "object" && Object.hasOwn(stages, name) ? stages[name] : undefined;
  return {
    look: Object.hasOwn(LOOKS, name) ? LOOKS[name] : "other",
    badge: first(own, BADGES, BADGE_CHARS_MAX) || name.toUpperCase().slice(0, BADGE_CHARS_MAX),
    title: first(own, TITLES, TITLE_CHARS_MAX) || plain(own) || name,
    layout: own?.layout === "card" ? "card" : "billboard",
  };
}

/** Return the stage that a bundle waits in: the one called upcoming, or its first. */
export function resting(content) {
  const stages = parsed(content)?.stages;
  if (!stages || typeof stages !== "object") return null;
  return Object.hasOwn(stages, "upcoming") ? "upcoming" : Object.keys(stages)[0] ?? null;
}

function first(own, names, most) {
  if (!own || typeof own !== "object") return "";
  const found = names.filter((each) => Object.hasOwn(own, each)).map((each) => own[each]);
  return (found.find((each) => typeof each === "string" && each.trim()) ?? "").slice(0, most);
}

function plain(own) {
  if (own === undefined || own === null) return "";
  return (typeof own === "string" ? own : JSON.stringify(own)).slice(0, TITLE_CHARS_MAX);
}
