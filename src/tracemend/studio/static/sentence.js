// Any sentence, answered by both models, with the words that speak for the answer of the later one.
import { get } from "./api.js";
import { paragraph } from "./colours.js";
import { fill, h, percent } from "./dom.js";
import { button, chip, shared, versionOf } from "./shared.js";
import { T } from "./strings.js";

const LONGEST = "2000";

export function sentenceOf(before, after) {
  const S = T.sentence;
  const area = (name, rows) => h("textarea", { rows, maxlength: LONGEST, "data-testid": `sentence-${name}`, on: { keydown: (event) => event.key === "Enter" && !event.shiftKey && (event.preventDefault(), ask()) } });
  const text = area("text", "2");
  const reply = shared.run.pairs ? area("reply", "2") : null;
  const said = h("div", { class: "two", "aria-live": "polite", "data-testid": "sentence-answers" });
  const go = button(S.ask, ask, { kind: "primary", test: "sentence-ask" });

  async function ask() {
    if (go.disabled || !text.value.trim()) return;
    go.disabled = true;
    fill(said, h("p", { class: "muted" }, S.waiting));
    try {
      const found = await get("sentence", { before, after, text: text.value, reply: reply?.value });
      fill(said, found.models.map((model) => answerOf(model, found.label)));
    } catch (error) {
      fill(said, h("p", { class: "bad" }, error.offline ? T.offline : error.message));
    }
    go.disabled = false;
  }

  return h(
    "section",
    { class: "panel", "data-testid": "sentence" },
    h("h2", {}, S.title),
    h("p", { class: "muted" }, S.help),
    h("label", { class: "block" }, S.text, text),
    reply ? h("label", { class: "block" }, S.reply, reply) : null,
    h("div", { class: "actions" }, go),
    said,
  );
}

function answerOf(model, label) {
  const likeliest = Object.entries(model.probabilities).sort(([, a], [, b]) => b - a);
  const part = (name) => model.words.filter(([of]) => of === name).map(([, piece, weight]) => [piece, weight]);
  return h(
    "div",
    {},
    h("h3", {}, versionOf(model.version).title),
    h("p", {}, likeliest.slice(0, 3).map(([name, p]) => [chip(name), ` ${percent(p)} `])),
    model.words.length ? [paragraph(part("text")), part("reply").length ? h("div", { class: "reply" }, paragraph(part("reply"))) : null, h("p", { class: "muted" }, T.words.shown(label))] : null,
  );
}
