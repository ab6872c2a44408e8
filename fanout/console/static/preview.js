// A stage's content as a TV tile and a phone card. What a device makes of it is the device's business; this shows
// the fields most of them have, as text, whatever is in them.

const FIELDS = { badge: ["badge", "label"], title: ["title", "headline", "name"], text: ["text", "subtitle", "description"] };

function line(content, kind) {
  const found = FIELDS[kind].map((name) => content[name]).find((value) => typeof value === "string" && value);
  if (!found) return null;
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = found;
  return element;
}

/** Tell whether a screen has a title to show. */
export const titled = (content) => line(content, "title") !== null;

/** Show a stage's content within an element. */
export function preview(element, content) {
  const safe = content && typeof content === "object" ? content : {};
  element.replaceChildren(...[["tv", "On a TV"], ["phone", "On a phone"]].map(([kind, name]) => {
    const screen = document.createElement("div");
    screen.className = kind;
    screen.setAttribute("role", "img");
    const lines = ["badge", "title", "text"].map((each) => line(safe, each)).filter(Boolean);
    screen.setAttribute("aria-label", `${name}: ${lines.map((each) => each.textContent).join(", ") || "no title"}`);
    screen.append(...lines);
    return screen;
  }));
}
