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
  var page = window;
  var hooks = {
    online: on.online,
    offline: on.offline,
    pageshow: on.online,
    resume: on.online,
    visibilitychange: looked
  };
  // The last two are the document's; on their way down to it the window sees them, too.
  function each(method) {
    for (var name in hooks) page[method](name, hooks[name], true);
  }
  each("addEventListener");
  return function () {
    each("removeEventListener");
  };
}
