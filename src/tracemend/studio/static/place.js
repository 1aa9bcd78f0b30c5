// Where the page is: all of it stands in the address, so that a link or a reload opens the same view.

const listeners = new Set();

export function place() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

// Changes that lead somewhere else (`step`) can be gone back from; the rest only keeps the address true.
export function go(changes, { step = false, quiet = false } = {}) {
  const now = { ...place(), ...changes };
  const kept = Object.entries(now).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept).toString();
  const target = query ? `/?${query}` : "/";
  if (target !== location.pathname + location.search) {
    if (step) history.pushState(null, "", target);
    else history.replaceState(null, "", target);
  }
  if (!quiet) for (const act of listeners) act(place());
}

export function moved(act) {
  listeners.add(act);
}

addEventListener("popstate", () => {
  for (const act of listeners) act(place());
});
