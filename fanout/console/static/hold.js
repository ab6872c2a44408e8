// Hold to confirm, with the pointer or the keyboard. Let go early and nothing happens.

export const HOLD_MS = 1500;
const KEYS = new Set([" ", "Enter"]);

/**
 * @param {HTMLButtonElement} button
 * @param {() => void} begun What was on the screen now is what is confirmed.
 * @param {() => void} held
 * @param {() => void} early
 */
export function hold(button, begun, held, early) {
  let timer = null;
  let byHand = false;

  const start = () => {
    if (timer !== null || button.disabled) return;
    begun();
    button.classList.add("holding");
    timer = setTimeout(() => { stop(); held(); }, HOLD_MS);
  };
  const stop = () => {
    clearTimeout(timer);
    timer = null;
    button.classList.remove("holding");
  };
  const letGo = () => { if (timer !== null) { stop(); early(); } };

  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    byHand = true;
    // Captured, so that it counts as let go wherever the pointer is then.
    button.setPointerCapture(event.pointerId);
    start();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(end, letGo);
  button.addEventListener("keydown", (event) => {
    if (!KEYS.has(event.key)) return;
    event.preventDefault();
    byHand = true;
    if (!event.repeat) start();
  });
  button.addEventListener("keyup", (event) => {
    if (!KEYS.has(event.key)) return;
    event.preventDefault();
    letGo();
  });
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
  button.addEventListener("click", () => {
    // A click that no pointer or key came before is a screen reader's or a voice's; it cannot hold.
    if (!byHand && !button.disabled) {
      begun();
      if (confirm(`${button.querySelector(".label").textContent}?`)) held();
    }
    byHand = false;
  });
}
