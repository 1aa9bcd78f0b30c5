// Errors at the left, the training examples behind the chosen one at the right.
import { get } from "./api.js";
import { body, card, forAll, likely, pair, showExample } from "./cards.js";
import { fill, h, percent, redraw, signed } from "./dom.js";
import { go, place } from "./place.js";
import { arrow, button, chip, failed, shared } from "./shared.js";
import { chosenLine, listed } from "./split.js";
import { T } from "./strings.js";
import { textOf } from "./words.js";

export function errorsView() {
  let evidence = null; // the error at hand
  let cards = []; // its training examples in the order of the page
  let at = -1; // the one at hand, -1 while the list has the keys
  let example = null; // the training example shown in full
  const chosen = new Set(); // of the cards, by uid

  const { grid, tools, detail, element, load } = listed("errors", {
    words: T.errors,
    about: T.evidence.title,
    first: "wrong",
    sort: "confidence",
    desc: true,
    also: () => ({ against: place().against }),
    height: 74,
    columns: [
      { name: "text", label: T.errors.columns.text, sort: "length" },
      { name: "label", label: T.errors.columns.label, sort: "label" },
      { name: "confidence", label: T.errors.columns.confidence, sort: "confidence" },
      { name: "change", label: T.errors.columns.change, sort: "change", title: T.errors.changeHelp },
    ],
    cells: (row) => [
      h("div", {}, body(row)),
      row.wrong ? arrow(row.label, row.predicted) : h("span", {}, chip(row.label), h("span", { class: "muted" }, ` ${T.errors.right}`)),
      h("span", { class: "number" }, percent(row.confidence)),
      h("span", { class: "number" }, signed(row.change), row.flipped ? h("span", { class: "tag" }, T.errors.flipped) : null),
    ],
    empty: (found) => (!found.prepared ? T.errors.waiting : place().q || (place().show || "wrong") !== "wrong" ? T.errors.none : T.errors.noneWrong),
  });

  const line = chosenLine(
    (rows) => forAll(rows, clear),
    () => button(T.clear, clear, { kind: "small plain" }),
  );

  function clear() {
    chosen.clear();
    if (evidence && !place().ex) drawError();
  }

  function toggle(uid) {
    if (!chosen.delete(uid)) chosen.add(uid);
    drawError();
  }

  function nothing() {
    evidence = null;
    cards = [];
    chosen.clear();
    delete detail.dataset.uid;
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
    if (evidence?.uid !== uid) chosen.clear();
    evidence = found;
    cards = [...found.away, ...found.towards];
    at = Math.min(at, cards.length - 1);
    drawError();
  }

  function drawError() {
    const found = evidence;
    const most = Math.max(...cards.map((row) => Math.abs(row.influence)), 1e-9);
    const one = (row, i) =>
      card(row, most, {
        here: i === at,
        chosen: chosen.has(row.uid),
        choose: () => toggle(row.uid),
        pick: () => take(i),
        open: () => go({ ex: row.uid }, { step: true }),
      });
    const side = (title, rows, from) =>
      h("section", {}, h("h3", {}, title), rows.length ? h("ul", { class: "cards" }, rows.map((row, i) => one(row, from + i))) : h("p", { class: "muted" }, T.evidence.none));
    line.draw(cards.filter((row) => chosen.has(row.uid)));
    redraw(
      detail,
      found.uid,
      button(`← ${T.back}`, () => go({ uid: "", ex: "" }), { kind: "small plain back narrow", test: "back" }),
      textOf(found, { label: found.label, seen: () => found.seen, reload: () => showError(found.uid) }),
      h("dl", { class: "facts" }, pair(T.evidence.label, chip(found.label)), pair(T.evidence.predicted, likely(found.probabilities))),
      shared.run.checked ? null : h("p", { class: "muted note" }, T.evidence.unchecked),
      line.element,
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
    element.classList.toggle("open", Boolean(uid || ex));
    if (ex) example = await showExample(detail, ex, { back: () => (history.length > 1 && place().uid ? history.back() : go({ ex: "" })), go: (to) => go(to, { step: true }) });
    else if (uid) await showError(uid);
    else nothing();
    if (!ex) example = null;
  }

  return {
    element,
    grid,
    async load() {
      const found = await load();
      if (found.against !== undefined) element.classList.toggle("alone", !found.against);
      await show();
      return found;
    },
    show,
    search: () => tools.search(),
    // Which training examples a key means: the one in full, those chosen, or the one at hand among the evidence.
    targets() {
      if (example) return [example];
      const several = cards.filter((row) => chosen.has(row.uid));
      return several.length ? several : at >= 0 && cards[at] ? [cards[at]] : [];
    },
    next: (by) => (at >= 0 && !place().ex ? take(Math.max(0, Math.min(cards.length - 1, at + by))) : grid.step(by)),
    enter: () => {
      if (place().ex) return;
      if (at >= 0 && cards[at]) go({ ex: cards[at].uid }, { step: true });
      else if (cards.length) take(0);
    },
    leave: () => {
      if (place().ex) go({ ex: "" });
      else if (chosen.size) clear();
      else if (at >= 0) take(-1);
      else go({ uid: "" });
    },
    choose: () => at >= 0 && cards[at] && !place().ex && toggle(cards[at].uid),
    changed(rows) {
      const known = new Map(rows.map((row) => [row.uid, row]));
      const fresh = (row) => ({ ...row, ...known.get(row.uid), influence: row.influence });
      cards = cards.map(fresh);
      if (evidence) Object.assign(evidence, { away: evidence.away.map(fresh), towards: evidence.towards.map(fresh) });
      if (place().ex) show();
      else if (evidence) drawError();
    },
    after: () => {
      if (place().ex) return;
      if (chosen.size) clear();
      else if (at >= 0 && at + 1 < cards.length) take(at + 1);
    },
  };
}
