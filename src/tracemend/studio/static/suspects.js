// The queue of suspects at the left, what speaks for and against a label at the right.
import { body, forAll, showExample, status } from "./cards.js";
import { fill, h } from "./dom.js";
import { go, place } from "./place.js";
import { arrow, button, chip } from "./shared.js";
import { chosenLine, listed } from "./split.js";
import { T } from "./strings.js";

// What a label was and became, or is and might become.
function labels(row) {
  if (row.label !== row.given) return arrow(row.given, row.label);
  return row.suggestion && row.suggestion !== row.label && !row.decision ? arrow(row.label, row.suggestion) : chip(row.label);
}

export function suspectsView() {
  let example = null;
  const { grid, tools, detail, element, load, recount } = listed("suspects", {
    words: T.suspects,
    about: T.example.title,
    first: "open",
    sort: "rank",
    desc: false,
    height: 102,
    columns: [
      { name: "pick", label: "" },
      { name: "text", label: T.suspects.columns.text, sort: "length" },
      { name: "label", label: T.suspects.columns.label, sort: "label" },
      { name: "errors", label: T.suspects.columns.errors, sort: "errors", title: T.suspects.errorsHelp },
      { name: "rank", label: T.suspects.columns.rank, sort: "rank" },
    ],
    cells: (row) => [
      h("input", { type: "checkbox", tabindex: "-1", "aria-label": `${T.choose} ${row.rank}`, checked: grid.chosen.has(row.uid), on: { change: () => grid.toggle(indexOf(row.uid)) } }),
      h("div", {}, body(row), h("p", { class: "reason" }, row.reason)),
      h("div", { class: "stack" }, labels(row), status(row)),
      h("span", { class: "number" }, row.errors || ""),
      h("span", { class: "number muted" }, row.rank),
    ],
    empty: (found) => {
      if (!found.prepared) return T.suspects.waiting;
      return place().q || (place().show || "open") !== "open" ? T.errors.none : T.suspects.none;
    },
  });
  const chosen = chosenLine(
    (rows) => forAll(rows, () => grid.clear()),
    () => button(T.clear, () => grid.clear(), { kind: "small plain" }),
  );
  tools.element.append(chosen.element);
  grid.whole.addEventListener("chosen", () => chosen.draw([...grid.chosen.values()]));

  function indexOf(uid) {
    for (let i = 0; i < grid.total; i += 1) if (grid.row(i)?.uid === uid) return i;
    return -1;
  }

  let list;

  async function show() {
    const uid = place().ex || place().uid;
    element.classList.toggle("open", Boolean(uid));
    if (!uid) {
      example = null;
      detail.classList.remove("stale");
      fill(detail, h("p", { class: "empty" }, T.suspects.pick));
      return;
    }
    const nested = Boolean(place().ex);
    if (example?.uid !== uid) {
      example = null;
      detail.classList.add("stale");
    }
    const back = nested ? () => go({ ex: "" }) : () => go({ uid: "" });
    const found = await showExample(detail, uid, { back, go: (to) => go(to, { step: true }) });
    if (!found) return;
    example = found;
    detail.classList.remove("stale");
    detail.querySelector(".back")?.classList.toggle("narrow", !nested);
  }

  return {
    element,
    grid,
    async load() {
      // What another list holds is not seen, so it is not chosen any more.
      const now = JSON.stringify([place().show, place().q]);
      if (list !== undefined && now !== list) grid.clear();
      list = now;
      const found = await load();
      await show();
      return found;
    },
    show,
    search: () => tools.search(),
    // Never another one than the one that is shown: the list may have moved on beside it.
    targets() {
      if (grid.chosen.size) return [...grid.chosen.values()];
      const uid = place().ex || place().uid;
      return [example, grid.here].filter((row) => row && (!uid || row.uid === uid)).slice(0, 1);
    },
    next: (by) => grid.step(by),
    enter: () => grid.here && go({ uid: grid.here.uid }, { step: true }),
    leave: () => (grid.chosen.size ? grid.clear() : go(place().ex ? { ex: "" } : { uid: "" })),
    choose: () => grid.toggle(),
    changed(rows) {
      grid.replace(rows);
      for (const row of rows) if (grid.chosen.has(row.uid)) grid.chosen.set(row.uid, { ...grid.chosen.get(row.uid), ...row });
      if (rows.some((row) => row.uid === (place().ex || place().uid))) show();
      recount();
    },
    after: () => (grid.chosen.size ? grid.clear() : grid.step(1)),
  };
}
