// The queue of suspects at the left, what speaks for and against a label at the right.
import { get } from "./api.js";
import { body, showExample, status } from "./cards.js";
import { fill, h } from "./dom.js";
import { Grid } from "./grid.js";
import { go, place } from "./place.js";
import { arrow, button, chip, shared } from "./shared.js";
import { split, toolbar } from "./split.js";
import { T } from "./strings.js";

export function suspectsView() {
  const detail = h("section", { class: "detail", "aria-label": T.example.title, "data-testid": "detail" });
  let example = null;
  const sorted = () => ({ sort: place().sort || "rank", desc: place().desc === "1" });
  const grid = new Grid({
    label: T.suspects.title,
    height: 102,
    columns: [
      { name: "pick", label: "" },
      { name: "text", label: T.suspects.columns.text, sort: "length" },
      { name: "label", label: T.suspects.columns.label, sort: "label" },
      { name: "errors", label: T.suspects.columns.errors, sort: "errors" },
      { name: "rank", label: T.suspects.columns.rank, sort: "rank" },
    ],
    fetch: (offset, limit) => {
      const { sort, desc } = sorted();
      return get("suspects", { version: shared.version, show: place().show, q: place().q, sort, desc, offset, limit });
    },
    cells: (row) => [
      h("input", { type: "checkbox", tabindex: "-1", "aria-label": `${T.suspects.choose} ${row.rank}`, checked: grid.chosen.has(row.uid), on: { change: () => grid.toggle(indexOf(row.uid)) } }),
      h("div", {}, body(row), h("p", { class: "reason" }, row.reason)),
      h("div", { class: "stack" }, row.suggestion && row.suggestion !== row.label && !row.decision ? arrow(row.label, row.suggestion) : chip(row.label), status(row)),
      h("span", { class: "number" }, row.errors || ""),
      h("span", { class: "number muted" }, row.rank),
    ],
    sorted,
    sort: (sort, desc) => go({ sort, desc: desc ? "1" : "0" }),
    pick: (row, _, { enter }) => go({ uid: row.uid, ex: "" }, { step: enter }),
    empty: () => T.suspects.none,
  });
  const tools = toolbar({ shows: T.suspects.show, first: "open", sorts: T.suspects.sorts, sorted });
  const chosen = h("div", { class: "chosenline", hidden: true });
  tools.element.append(chosen);
  grid.whole.addEventListener("chosen", () => {
    chosen.hidden = !grid.chosen.size;
    fill(chosen, h("span", { "data-testid": "chosen" }, T.chosen(grid.chosen.size)), button(T.clear, () => grid.clear(), { kind: "small plain" }));
  });
  const view = split(grid, tools, detail, T.suspects.title);

  function indexOf(uid) {
    for (let i = 0; i < grid.total; i += 1) if (grid.row(i)?.uid === uid) return i;
    return -1;
  }

  async function show() {
    const uid = place().ex || place().uid;
    view.element.classList.toggle("open", Boolean(uid));
    if (!uid) {
      example = null;
      fill(detail, h("p", { class: "empty" }, T.suspects.pick));
      return;
    }
    const nested = Boolean(place().ex);
    const back = nested ? () => go({ ex: "" }) : () => go({ uid: "" });
    example = await showExample(detail, uid, { back, go: (to) => go(to, { step: true }) });
    detail.querySelector(".back")?.classList.toggle("narrow", !nested);
  }

  return {
    element: view.element,
    grid,
    async load() {
      const found = await grid.load({ keep: place().uid || null });
      tools.update(found.counts);
      await show();
      return found;
    },
    show,
    search: () => tools.search(),
    targets: () => (grid.chosen.size ? [...grid.chosen.values()] : place().ex && example ? [example] : grid.here ? [grid.here] : example ? [example] : []),
    next: (by) => grid.step(by),
    enter: () => grid.here && go({ uid: grid.here.uid }, { step: true }),
    leave: () => (grid.chosen.size ? grid.clear() : go(place().ex ? { ex: "" } : { uid: "" })),
    choose: () => grid.toggle(),
    changed(rows) {
      grid.replace(rows);
      for (const row of rows) if (grid.chosen.has(row.uid)) grid.chosen.set(row.uid, { ...grid.chosen.get(row.uid), ...row });
      if (rows.some((row) => row.uid === (place().ex || place().uid))) show();
      get("suspects", { version: shared.version, show: place().show, q: place().q, limit: 1 }).then((found) => tools.update(found.counts)).catch(() => {});
    },
    after: () => (grid.chosen.size ? grid.clear() : grid.step(1)),
  };
}

