// A training example as a card in the evidence, and one in full.
import { get } from "./api.js";
import { paragraph, weighed } from "./colours.js";
import { fill, h, percent, redraw, signed, visible, when } from "./dom.js";
import { act, comment, undo } from "./review.js";
import { arrow, bar, button, chip, failed, shared } from "./shared.js";
import { T } from "./strings.js";
import { textOf } from "./words.js";

// Rows of a list in the detail before a button shows the rest.
const FIRST = 10;

export function body(row) {
  return [
    h("p", { class: "clamp" }, visible(row.text)),
    row.reply === null ? null : h("p", { class: "clamp reply" }, visible(row.reply)),
  ];
}

export function status(row) {
  const d = row.decision;
  if (d) {
    const what = { remove: T.example.removed, keep: T.example.kept, label: T.example.labelled }[d.kind];
    return h("span", { class: "status", "data-testid": "status" }, what, " ", h("span", { class: "muted" }, T.example.by(d.actor)));
  }
  if (row.proposed) {
    const what = row.proposed.kind === "label" ? row.proposed.new : T.example.removed;
    const same = row.suggestion && row.suggestion === row.proposed.new;
    return h("span", { class: "status muted small" }, same ? T.example.same : T.example.proposed(what));
  }
  return null;
}

// The buttons of every training example; the same keys do the same.
export function actions(row, { full = false } = {}) {
  const made = [];
  if (row.suggestion && row.suggestion !== row.label && !row.decision) {
    made.push(button(T.act.accept(row.suggestion), () => act([row], "accept"), { kind: "primary small", key: "a", test: "accept", title: T.act.acceptHelp }));
  }
  const accepts = made.length > 0;
  if (full) {
    shared.run.labels.slice(0, 9).forEach((label, i) => {
      // The suggestion has its own button already.
      if (accepts && label === row.suggestion) return;
      made.push(button(label === row.given ? T.act.keep(label) : T.act.accept(label), () => act([row], "label", label), { kind: "small", key: String(i + 1), test: `label-${i + 1}` }));
    });
  }
  if (row.decision?.kind !== "remove") made.push(button(T.act.remove, () => act([row], "remove"), { kind: "small", key: "x", test: "remove" }));
  if (row.decision) made.push(button(T.act.undo, () => undo(row.decision.version), { kind: "small", test: "undo-one" }));
  if (full) made.push(button(T.act.comment, () => comment([row]), { kind: "small", key: "c", test: "comment" }));
  return h("div", { class: "actions" }, made);
}

// The same for several at once.
export function forAll(rows, clear) {
  const all = (what, value) => act(rows, what, value).then((done) => done && clear());
  return h(
    "div",
    { class: "actions" },
    rows.every((row) => row.suggestion) ? button(T.act.acceptAll, () => all("accept"), { kind: "primary small", key: "a", test: "accept-all" }) : null,
    shared.run.labels.slice(0, 9).map((label, i) => button(T.act.accept(label), () => all("label", label), { kind: "small", key: String(i + 1), test: `label-all-${i + 1}` })),
    button(T.act.remove, () => all("remove"), { kind: "small", key: "x", test: "remove-all" }),
  );
}

export function card(row, most, { here, chosen, choose, pick, open }) {
  const value = row.influence;
  const text = h("div", { class: "cardtext" }, body(row));
  if (here) colour(text, row);
  return h(
    "li",
    { class: `card${here ? " here" : ""}${chosen ? " chosen" : ""}`, "data-testid": "card", "data-uid": row.uid, on: { click: (event) => !event.target.closest("button, input") && pick() } },
    h(
      "div",
      { class: "barline" },
      h("input", { type: "checkbox", "aria-label": `${T.choose}: ${row.text.slice(0, 60)}`, "data-testid": "choose", checked: chosen, on: { change: choose } }),
      bar(value, most, signed(value, 3)),
      h("span", { class: "number" }, signed(value, 3)),
    ),
    text,
    h(
      "div",
      { class: "facts" },
      chip(row.label, { title: T.example.now }),
      row.label === row.given ? null : h("span", { class: "muted" }, `${T.example.given}: ${row.given}`),
      row.opinion_of_label === null ? null : h("span", { class: "muted", title: T.example.opinion }, `${T.example.opinion}: ${row.given} ${percent(row.opinion_of_label)}`),
      row.nearest ? h("span", { class: "muted", title: T.example.near }, T.example.nearest(row.nearest.label, row.nearest.similarity.toFixed(2))) : null,
      row.copies ? h("span", { class: "muted", title: T.example.twins }, T.example.copies(row.copies)) : null,
      status(row),
    ),
    h("div", { class: "cardline" }, actions(row, { full: here }), button(T.evidence.open, open, { kind: "small plain", test: "open" })),
  );
}

// The card at hand shows its words as the error does; where they cannot be had, the error's note says why.
async function colour(place, row) {
  const found = await weighed(place, row.uid, row.label).catch(() => null);
  if (!found?.text.length) return;
  const part = (name) => paragraph(found[name], { class: name === "reply" ? "clamp reply" : "clamp" });
  fill(place, part("text"), row.reply === null ? null : part("reply"));
}

export async function showExample(place, uid, { back, go }) {
  // Until it is there, the keys must not act on an example that is not seen; and an answer that comes late is not drawn.
  const ticket = (showExample.asked = (showExample.asked || 0) + 1);
  let found;
  try {
    found = await get("example", { version: shared.version, uid });
  } catch (error) {
    failed(error);
    return null;
  }
  if (ticket !== showExample.asked) return null;
  const reload = () => showExample(place, uid, { back, go });
  const more = (title, rows, line, none) => {
    if (!rows.length && !none) return null;
    const items = (some) => some.map((row) => h("li", {}, line(row)));
    const list = h("ul", { class: "mini" }, items(rows.slice(0, FIRST)));
    const rest = rows.length > FIRST ? button(T.all(rows.length), () => (fill(list, items(rows)), rest.remove()), { kind: "small", test: "all" }) : null;
    return h("section", {}, h("h3", {}, title), rows.length ? [list, rest] : h("p", { class: "muted" }, none));
  };
  const most = Math.max(...found.caused.map((row) => Math.abs(row.influence)), 1e-9);
  redraw(
    place,
    uid,
    back ? button(`← ${T.back}`, back, { kind: "small plain back", test: "back" }) : null,
    h("h2", {}, T.example.title),
    textOf(found, { label: found.label, seen: () => found.seen, reload }),
    h(
      "dl",
      { class: "facts" },
      pair(T.example.given, chip(found.given)),
      found.label === found.given ? null : pair(T.example.now, chip(found.label)),
      found.suggestion && found.suggestion !== found.given ? pair(T.example.suggested, chip(found.suggestion)) : null,
      found.opinion ? pair(T.example.opinion, likely(found.opinion)) : null,
      pair(T.example.model, likely(found.probabilities)),
    ),
    found.own.length ? h("dl", { class: "facts own", "data-testid": "own" }, found.own.map(([name, value]) => pair(name, visible(value)))) : null,
    found.reason ? h("p", { class: "reason", "data-testid": "reason" }, found.reason) : null,
    status(found) ? h("p", {}, status(found)) : null,
    actions(found, { full: true }),
    more(T.example.caused(found.caused.length), found.caused, (row) => [bar(row.influence, most, signed(row.influence, 3)), ...body(row), h("div", { class: "facts" }, arrow(row.label, row.predicted), button(T.evidence.open, () => go({ tab: "errors", uid: row.uid, ex: "" }), { kind: "small plain" }))], T.example.causedNone),
    more(T.example.near, found.near, (row) => [...body(row), h("div", { class: "facts" }, chip(row.label), h("span", { class: "muted" }, T.example.similar(row.similarity.toFixed(2))), button(T.evidence.open, () => go({ ex: row.uid }), { kind: "small plain" }))]),
    more(T.example.twins, found.twins, (row) => [...body(row), h("div", { class: "facts" }, chip(row.label), button(T.evidence.open, () => go({ ex: row.uid }), { kind: "small plain" }))]),
    more(T.example.comments, found.comments, (d) => [h("p", {}, visible(d.new)), h("span", { class: "muted" }, `${d.actor}, ${when(d.time)}`)]),
    more(T.example.history, found.history, (d) => h("span", { class: "muted" }, `${T.history.kinds[d.kind]} ${d.undoes ? T.history.undoes(d.undoes) : d.new || ""} – ${d.actor}, ${when(d.time)}`)),
  );
  return found;
}

export function pair(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

export function likely(probabilities) {
  const [label, p] = Object.entries(probabilities).reduce((a, b) => (b[1] > a[1] ? b : a));
  return [chip(label), " ", percent(p)];
}
