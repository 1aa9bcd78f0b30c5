// Errors at the left, the training examples behind the chosen one at the right.
import { get } from "./api.js";
import { card, body, likely, pair, showExample } from "./cards.js";
import { fill, h, percent, signed } from "./dom.js";
import { Grid } from "./grid.js";
import { go, place } from "./place.js";
import { arrow, button, chip, failed, shared } from "./shared.js";
import { T } from "./strings.js";
import { textOf } from "./words.js";
import { split, toolbar } from "./split.js";

export function errorsView() {
  const detail = h("section", { class: "detail", "aria-label": T.evidence.open, "data-testid": "detail" });
  let evidence = null; // the error at hand
  let cards = []; // its training examples in the order of the page
  let at = -1; // the one at hand, -1 while the list has the keys
  let example = null; // the training example shown in full

  const sorted = () => ({ sort: place().sort || "confidence", desc: place().desc !== "0" });
  const grid = new Grid({
    label: T.errors.title,
    height: 74,
    columns: [
      { name: "text", label: T.errors.columns.text, sort: "length" },
      { name: "label", label: T.errors.columns.label, sort: "label" },
      { name: "confidence", label: T.errors.columns.confidence, sort: "confidence" },
      { name: "change", label: T.errors.columns.change, sort: "change", title: T.errors.changeHelp },
    ],
    fetch: (offset, limit) => {
      const { sort, desc } = sorted();
      return get("errors", { version: shared.version, show: place().show || "wrong", q: place().q, against: place().against, sort, desc, offset, limit });
    },
    cells: (row) => [
      h("div", {}, body(row)),
      row.wrong ? arrow(row.label, row.predicted) : h("span", {}, chip(row.label), h("span", { class: "muted" }, ` ${T.errors.right}`)),
      h("span", { class: "number" }, percent(row.confidence)),
      h("span", { class: "number" }, signed(row.change), row.flipped ? h("span", { class: "tag" }, T.errors.flipped) : null),
    ],
    sorted,
    sort: (sort, desc) => go({ sort, desc: desc ? "1" : "0" }),
    pick: (row, _, { enter }) => go({ uid: row.uid, ex: "" }, { step: enter }),
    empty: () => (place().q || (place().show || "wrong") !== "wrong" ? T.errors.none : T.errors.noneWrong),
  });
  const tools = toolbar({ shows: T.errors.show, first: "wrong", sorts: T.errors.sorts, sorted });
  const view = split(grid, tools, detail, T.errors.title);

  function nothing() {
    evidence = null;
    cards = [];
    fill(detail, h("p", { class: "empty" }, T.errors.pick));
  }

  async function showError(uid) {
    const ticket = (showError.asked = (showError.asked || 0) + 1);
    let found;
    try {
      found = await get("error", { version: shared.version, uid });
    } catch (error) {
      failed(error);
      return;
    }
    if (ticket !== showError.asked || place().uid !== uid || place().ex) return;
    evidence = found;
    cards = [...found.away, ...found.towards];
    at = Math.min(at, cards.length - 1);
    drawError();
  }

  function drawError() {
    const found = evidence;
    const most = Math.max(...cards.map((row) => Math.abs(row.influence)), 1e-9);
    const side = (title, rows, from) =>
      h(
        "section",
        {},
        h("h3", {}, title),
        rows.length
          ? h("ul", { class: "cards" }, rows.map((row, i) => card(row, most, { here: from + i === at, pick: () => take(from + i), open: () => go({ ex: row.uid }, { step: true }) })))
          : h("p", { class: "muted" }, T.evidence.none),
      );
    fill(
      detail,
      button(`← ${T.back}`, () => go({ uid: "", ex: "" }), { kind: "small plain back narrow", test: "back" }),
      textOf(found, { label: found.label, seen: () => found.seen, reload: () => showError(found.uid) }),
      h("dl", { class: "facts" }, pair(T.evidence.label, chip(found.label)), pair(T.evidence.predicted, likely(found.probabilities))),
      found.traced
        ? [
            side(T.evidence.away(found.label), found.away, 0),
            side(T.evidence.towards(found.label), found.towards, found.away.length),
            h("p", { class: "muted note" }, T.evidence.random(`±${found.random.toFixed(3)}`), " ", T.evidence.enter),
          ]
        : h("p", { class: "empty" }, found.prepared ? T.evidence.untraced : T.evidence.computing),
    );
  }

  function take(i) {
    at = i;
    if (evidence && !place().ex) drawError();
    detail.querySelector(".card.here")?.scrollIntoView({ block: "nearest" });
  }

  async function show() {
    const { uid, ex } = place();
    view.element.classList.toggle("open", Boolean(uid || ex));
    if (ex) example = await showExample(detail, ex, { back: () => history.length > 1 && place().uid ? history.back() : go({ ex: "" }), go: (to) => go(to, { step: true }) });
    else if (uid) await showError(uid);
    else nothing();
    if (!ex) example = null;
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
    // Which training examples a key means: the one in full, or the one at hand among the evidence.
    targets: () => (example ? [example] : at >= 0 && cards[at] ? [cards[at]] : []),
    next: (by) => (at >= 0 && !place().ex ? take(Math.max(0, Math.min(cards.length - 1, at + by))) : grid.step(by)),
    enter: () => {
      if (place().ex) return;
      if (at >= 0 && cards[at]) go({ ex: cards[at].uid }, { step: true });
      else if (cards.length) take(0);
    },
    leave: () => {
      if (place().ex) go({ ex: "" });
      else if (at >= 0) take(-1);
      else go({ uid: "" });
    },
    choose: () => {},
    changed(rows) {
      const known = new Map(rows.map((row) => [row.uid, row]));
      cards = cards.map((row) => ({ ...row, ...known.get(row.uid), influence: row.influence }));
      if (evidence) {
        evidence.away = evidence.away.map((row) => ({ ...row, ...known.get(row.uid), influence: row.influence }));
        evidence.towards = evidence.towards.map((row) => ({ ...row, ...known.get(row.uid), influence: row.influence }));
      }
      if (place().ex) show();
      else if (evidence) drawError();
    },
    after: () => at >= 0 && !place().ex && at + 1 < cards.length && take(at + 1),
  };
}
