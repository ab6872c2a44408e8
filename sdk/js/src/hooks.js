// What a page hears about itself: the network came or went, the page is looked at again, the TV woke up. Knows nothing
// of devices. Without a window (Node, workers) there is nothing to hear.

// A page that was frozen, or comes back from the browser's history, is told as one whose network came back is: nothing
// reached it meanwhile, its socket may be dead, and what is overdue may have been cancelled. These events come before
// its timers run again.
//
// on: online(), offline(), awake(). Returns a function that stops listening.
export function listen(on) {
  if (typeof document === "undefined") return function () {};
  function looked() {
    if (!document.hidden) on.awake();
  }
  var hooks = [
    [window, "online", on.online],
    [window, "offline", on.offline],
    [window, "pageshow", on.online],
    [document, "resume", on.online],
    [document, "visibilitychange", looked]
  ];
  hooks.forEach(function (hook) {
    hook[0].addEventListener(hook[1], hook[2]);
  });
  return function () {
    hooks.forEach(function (hook) {
      hook[0].removeEventListener(hook[1], hook[2]);
    });
  };
}
