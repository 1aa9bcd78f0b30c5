// A text whose words can be coloured by saliency and marked by a person.
import { get, post } from "./api.js";
import { fill, h, signed, visible } from "./dom.js";
import { ask, button, failed, shared, toast, whoever } from "./shared.js";
import { T } from "./strings.js";

// Words that can be marked, and characters that are shown of a very long text.
const MOST = 300;
const LONGEST = 20000;

export function textOf(example, { label, seen, reload }) {
  const box = h("div", { class: "text" });
  const tools = h("div", { class: "texttools" });
  let marking = false;
  const draw = () => {
    fill(box, paragraph(example.text, example.words, marking, choose), example.reply === null ? null : h("div", { class: "reply" }, paragraph(example.reply, example.words, marking, choose)));
    fill(
      tools,
      button(marking ? T.words.done : T.words.mark, () => ((marking = !marking), draw()), { kind: "small", test: "mark-words" }),
      h("span", { class: "muted" }, marking ? T.words.help : shared.run.words ? T.words.shown : T.words.absent),
    );
  };
  async function choose(word) {
    const actor = await whoever();
    if (!actor) return;
    const found = await ask({
      title: `${T.words.which} “${word}”`,
      help: T.words.kept,
      body: [
        choice("matters", [["no", T.words.not], ["yes", T.words.does], ["none", T.words.none]]),
        choice("scope", [["example", T.words.here], ["all", T.words.everywhere]]),
      ],
    });
    if (!found) return;
    const matters = { no: false, yes: true, none: null }[found.matters];
    try {
      const told = await post("mark", { actor, uid: example.uid, word, matters, scope: found.scope, seen: seen() });
      shared.run = { ...shared.run, ...told };
      toast(`${word}: ${{ no: T.words.not, yes: T.words.does, none: T.words.none }[found.matters]}`);
      reload();
    } catch (error) {
      failed(error);
    }
  }
  draw();
  if (shared.run.words) colour(box, example.uid, label, () => marking);
  return [box, tools];
}

function choice(name, options) {
  return h(
    "fieldset",
    {},
    h("legend", {}, T.words.groups[name]),
    options.map(([value, label], i) => h("label", { class: "radio" }, h("input", { type: "radio", name, value, checked: i === 0 }), label)),
  );
}

function paragraph(text, marks, marking, choose) {
  if (!marking) {
    const cut = text.length > LONGEST;
    const shown = h("p", {}, plain(text.slice(0, LONGEST), marks));
    if (cut) {
      const rest = text.length - LONGEST;
      const more = button(`… ${rest}`, () => fill(shown, visible(text)), { kind: "small" });
      shown.append(" ", more);
    }
    return shown;
  }
  const words = text.slice(0, LONGEST).split(/(\s+)/);
  const parts = words.slice(0, 2 * MOST).map((word) => {
    const bare = word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
    if (!bare) return word;
    return h("button", { type: "button", class: `word ${markOf(bare, marks)}`, "data-testid": "word", on: { click: () => choose(bare.slice(0, 200)) } }, visible(word));
  });
  return h("p", {}, parts, words.length > 2 * MOST ? ` … ${T.words.more(MOST)}` : "");
}

function plain(text, marks) {
  if (!marks?.length) return visible(text);
  return text.split(/(\s+)/).map((word) => {
    const bare = word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
    const mark = bare && markOf(bare, marks);
    return mark ? h("span", { class: `word ${mark}`, title: mark === "ignore" ? T.words.not : T.words.does }, visible(word)) : visible(word);
  });
}

function markOf(word, marks) {
  const found = (marks || []).find((mark) => mark.word === word);
  return found ? (found.matters ? "matters" : "ignore") : "";
}

async function colour(box, uid, label, marking) {
  try {
    const found = await get("words", { uid, label, version: shared.version });
    if (!found.words.length || marking() || !box.isConnected) return;
    const part = (name) =>
      found.words
        .filter(([of]) => of === name)
        .map(([, piece, weight]) => {
          if (weight === null) return visible(piece);
          const one = h("span", { class: weight < 0 ? "w-away" : "w-towards", title: signed(weight) }, visible(piece));
          one.style.setProperty("--w", String(Math.abs(weight)));
          return one;
        });
    const reply = part("reply");
    fill(box, h("p", { "data-testid": "coloured" }, part("text")), reply.length ? h("div", { class: "reply" }, h("p", {}, reply)) : null);
  } catch (error) {
    failed(error);
  }
}
