// Two models side by side on examples that took no part.
import { get, post } from "./api.js";
import { body } from "./cards.js";
import { fill, h, percent, signed, visible } from "./dom.js";
import { go, place } from "./place.js";
import { arrow, button, chip, failed, shared, versionOf } from "./shared.js";
import { sentenceOf } from "./sentence.js";
import { T } from "./strings.js";

export function compareView() {
  const element = h("div", { class: "page compare" });

  function chosen() {
    const { versions } = shared.run;
    const last = versions[versions.length - 1];
    const after = place().after || (versions.length > 1 ? last.name : "");
    const before = place().before || versionOf(after)?.parent || versions[0].name;
    return { before, after };
  }

  function selector(name, label, value) {
    const made = h(
      "select",
      { "data-testid": name, on: { change: () => go({ ...chosen(), [name]: made.value }, { step: true }) } },
      shared.run.versions.map((v) => h("option", { value: v.name, disabled: !v.predicted }, v.title)),
    );
    made.value = value;
    return h("label", {}, label, made);
  }

  async function load() {
    const { before, after } = chosen();
    const head = [h("h1", {}, T.compare.title)];
    if (shared.run.versions.length < 2) {
      fill(element, h("section", { class: "panel" }, head, h("p", { class: "empty" }, T.compare.one)));
      return;
    }
    head.push(h("div", { class: "choice" }, selector("before", T.compare.before, before), button("⇄", () => go({ before: after, after: before }, { step: true }), { kind: "icon", title: T.compare.swap }), selector("after", T.compare.after, after)));
    const place_ = h("div", {}, h("p", { class: "muted" }, T.loading));
    fill(element, h("section", { class: "panel" }, head), place_);
    if (!versionOf(before)?.predicted || !versionOf(after)?.predicted) {
      const lacking = versionOf(versionOf(before)?.predicted ? after : before);
      fill(place_, h("div", { class: "panel" }, h("p", {}, T.compare.unknown), h("div", { class: "actions" }, button(`${T.retrain.prepare}: ${lacking.title}`, () => post("prepare", { version: lacking.name }).then(() => go({ tab: "retrain" }, { step: true }), failed), { kind: "primary" }))));
      return;
    }
    try {
      draw(place_, await get("compare", { before, after }));
    } catch (error) {
      fill(place_, h("p", { class: "bad" }, error.message));
      if (error.offline) failed(error);
    }
  }

  return { element, load, show: load };
}

function draw(into, found) {
  const most = Math.max(...found.comparisons.map((c) => Math.max(Math.abs(c.low), Math.abs(c.high))), 0.01);
  fill(
    into,
    h(
      "section",
      { class: `panel verdict ${found.helped ? "good" : ""}` },
      h("p", { class: "sentence", "data-testid": "verdict" }, found.sentence),
      h("p", { class: "muted" }, T.compare.on(found.n), ". ", T.compare.looks(found.looks)),
      h("div", { class: "metrics" }, found.comparisons.map((c) => metric(c, most))),
    ),
    found.words.length ? wordsOf(found.words) : null,
    sentenceOf(found.before, found.after),
    h("div", { class: "two" }, changed(T.compare.gone(found.gone.total), found.gone, "gone"), changed(T.compare.fresh(found.new.total), found.new, "new")),
    h("p", { class: "muted" }, T.compare.stayed(found.stayed)),
    h("section", { class: "panel" }, h("h2", {}, T.compare.confusion), h("div", { class: "two" }, confusion(found, 0, versionOf(found.before).title), confusion(found, 1, versionOf(found.after).title))),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, `${T.compare.take}: ${versionOf(found.after).title}`),
      h("ul", { class: "files" }, Object.entries(shared.run.files).map(([file, what]) => h("li", {}, h("a", { href: `/take/${found.after}/${file}`, download: "", "data-testid": `take-${file}` }, file), h("span", { class: "muted" }, ` ${what}`)))),
    ),
  );
}

function metric(c, most) {
  const range = h("span", { class: "range" });
  range.style.left = `${50 + (c.low / most) * 48}%`;
  range.style.width = `${Math.max(0.6, ((c.high - c.low) / most) * 48)}%`;
  const dot = h("span", { class: "dot" });
  dot.style.left = `${50 + (c.difference / most) * 48}%`;
  const said = `${signed(c.difference, 3)} (${signed(c.low, 3)} … ${signed(c.high, 3)})`;
  return h(
    "div",
    { class: "metric" },
    h("div", {}, T.compare.metrics[c.metric]),
    h("div", { class: "number big" }, `${c.before.toFixed(3)} → ${c.after.toFixed(3)}`),
    h("div", { class: "interval", role: "img", "aria-label": `${T.compare.interval} ${said}` }, h("span", { class: "zero" }), range, dot),
    h("div", { class: "muted" }, `${said}, ${c.shown ? T.compare.shown : T.compare.notShown}`),
  );
}

// What marked words weigh in both models, each beside a word that nobody marked.
function wordsOf(rows) {
  const C = T.compare.wordColumns;
  const share = (v) => (v === null ? "–" : percent(v));
  const rank = (v) => (v === null ? "–" : v.toFixed(1));
  const cells = (row) => [
    h("td", { class: "number", "data-name": C.texts }, row.texts || T.compare.absent),
    h("td", { class: "number", "data-name": C.share }, `${share(row.share_before)} → ${share(row.share_after)}`),
    h("td", { class: "number", "data-name": C.rank }, `${rank(row.rank_before)} → ${rank(row.rank_after)}`),
  ];
  const control = (row) => (row ? [h("span", { class: "word" }, visible(row.word)), `: ${share(row.share_before)} → ${share(row.share_after)}`] : "–");
  return h(
    "section",
    { class: "panel", "data-testid": "words-compared" },
    h("h2", {}, T.compare.words),
    h("p", { class: "muted" }, T.compare.wordsHelp),
    h("div", { class: "wide" }, h("table", { class: "cardlike" }, h("thead", {}, h("tr", {}, Object.values(C).map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row", class: "anyword" }, visible(row.word)), h("td", { "data-name": C.said }, row.matters ? T.words.does : T.words.not), h("td", { class: "number", "data-name": C.train }, row.train), cells(row), h("td", { "data-name": C.control }, control(row.control))))))),
  );
}

function changed(title, part, name) {
  return h(
    "section",
    { class: "panel", "data-testid": name },
    h("h2", {}, title),
    part.total > part.rows.length ? h("p", { class: "muted" }, T.compare.first(part.rows.length)) : null,
    h("ul", { class: "mini" }, part.rows.map((row) => h("li", {}, body(row), h("div", { class: "facts" }, chip(row.label, { title: T.compare.truth }), h("span", { class: "muted" }, `${T.compare.predicted}:`), arrow(row.before, row.after))))),
  );
}

function confusion(found, which, title) {
  const counts = found.confusion[which];
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "confusion" },
      h("caption", {}, title),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, `${T.compare.truth} ↓ ${T.compare.predicted} →`), found.labels.map((label) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, counts.map((line, i) => h("tr", {}, h("th", { scope: "row" }, found.labels[i]), line.map((n, j) => h("td", { class: i === j ? "right" : n ? "wrong" : "" }, n))))),
    ),
  );
}
