// Which activations of a campaign still stand, after later ones and cancels. Pure.
//
// It looks at revisions alone, for a revision is the store's clock at publication. An activation X has *begun* for a
// later publication of revision R if X.at <= R: from then on some devices show it, which is the point of no return.
//
// - A later activation or cancel strikes every X that had not begun when it was published.
// - What had begun is struck by nothing: the devices whose slots are still to come follow, until a newer one reaches
//   them. So a device that arrives between "upcoming" and "live" still gets "upcoming".

// Returns the activations that stand, by revision. Takes activations and cancels (they have no `at`) in any order,
// duplicates allowed, as a list of its own: it is sorted in place.
export function standing(messages) {
  return messages
    .sort(function (one, other) {
      return one.rev - other.rev;
    })
    .reduce(function (result, next) {
      result = result.filter(function (earlier) {
        return earlier.at <= next.rev && earlier.rev < next.rev;
      });
      return "at" in next ? result.concat(next) : result;
    }, []);
}
