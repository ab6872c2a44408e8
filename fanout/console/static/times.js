// Instants in the viewer's zone, with UTC beside. The server writes UTC only, for whoever has no script.

const LOCAL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const LOCAL_TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const UTC_TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });
const UTC_FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });

/** Write every time element below `root` in both zones. */
export function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    if (element.dataset.local) continue;
    element.dataset.local = "yes";
    const at = new Date(element.dateTime);
    const sameDay = at.getDate() === at.getUTCDate();
    const utc = document.createElement("span");
    utc.className = "utc";
    utc.textContent = `${(sameDay ? UTC_TIME : UTC_FULL).format(at)} UTC`;
    if (at.getTimezoneOffset()) element.replaceChildren(`${LOCAL.format(at)} `, utc);
    else element.textContent = `${LOCAL.format(at)} UTC`;
  }
}

/** A time of day, for messages: here, with UTC beside. */
export function clock(ms) {
  const at = new Date(ms);
  const utc = `${UTC_TIME.format(at)} UTC`;
  return at.getTimezoneOffset() ? `${LOCAL_TIME.format(at)} (${utc})` : utc;
}

/** What the API says, with its instants as everywhere else: here, with UTC beside. */
export function local(words) {
  return words.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, (iso) => {
    const at = new Date(iso);
    return at.getTimezoneOffset() ? `${LOCAL.format(at)} (${UTC_TIME.format(at)} UTC)` : `${LOCAL.format(at)} UTC`;
  });
}

/** Unix ms as the value of a datetime-local field, which knows the viewer's zone only. */
export function toField(ms) {
  const at = new Date(ms - new Date(ms).getTimezoneOffset() * 60000);
  return at.toISOString().slice(0, 19);
}

/** A datetime-local field's value as Unix ms; NaN if it is empty. */
export const fromField = (value) => new Date(value).getTime();
