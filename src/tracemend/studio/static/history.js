// The ledger: everything that was decided, and by whom.
import { get } from "./api.js";
import { fill, h, visible, when } from "./dom.js";
import { undo } from "./review.js";
import { button, chip } from "./shared.js";
import { T } from "./strings.js";
import { go } from "./place.js";

const STEP = 100;

export function historyView() {
  const element = h("div", { class: "page" });
  let shown = STEP;

  async function load() {
    const rows = [];
    let total = 0;
    while (rows.length < shown) {
      const found = await get("history", { offset: rows.length, limit: Math.min(200, shown - rows.length) });
      total = found.total;
      rows.push(...found.rows);
      if (!found.rows.length) break;
    }
    const lines = rows.map((row) =>
      h(
        "tr",
        { class: row.undone ? "undone" : "", "data-testid": "ledger-row" },
        h("td", { class: "number muted" }, row.version),
        h("td", {}, what(row)),
        h("td", {}, row.text ? h("button", { type: "button", class: "plain clamp one", on: { click: () => go({ tab: "suspects", uid: row.uid, ex: "", show: "all" }, { step: true }) } }, visible(row.text)) : null),
        h("td", { class: "small" }, row.actor, h("div", { class: "muted" }, when(row.time))),
        h("td", {}, row.undone ? h("span", { class: "muted" }, T.history.undone) : row.undoes ? null : button(T.history.undo, () => undo(row.version), { kind: "small" })),
      ),
    );
    const { version, what: kind, text, who } = T.history.columns;
    fill(
      element,
      h(
        "section",
        { class: "panel" },
        h("h1", {}, T.history.title),
        rows.length
          ? h("div", { class: "wide" }, h("table", { class: "ledger cardlike" }, h("thead", {}, h("tr", {}, [version, kind, text, who].map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col" }, h("span", { class: "unseen-label" }, T.history.undo)))), h("tbody", {}, lines)))
          : h("p", { class: "empty" }, T.history.none),
        total > rows.length ? button(`${T.of(rows.length, total)} …`, () => ((shown += STEP), load()), { kind: "small" }) : null,
      ),
    );
  }

  return { element, load, show: () => {}, changed: load, redraw: load };
}

function what(row) {
  if (row.undoes) return h("span", { class: "muted" }, T.history.undoes(row.undoes));
  if (row.kind === "label") return [chip(row.old || ""), " → ", chip(row.new)];
  if (row.kind === "word") return [h("q", {}, visible(row.new)), " ", row.matters ? T.history.matter : T.history.notMatter];
  if (row.kind === "comment") return h("q", {}, visible(row.new));
  return T.history.kinds[row.kind];
}
