// A text whose words are coloured by saliency and can be marked by a person.
import { get, post } from "./api.js";
import { markOf, markOn, paragraph, unread, weighed } from "./colours.js";
import { fill, h, signed, spelled, visible } from "./dom.js";
import { ask, button, failed, shared, toast, whoever } from "./shared.js";
import { T } from "./strings.js";
import { unitView } from "./units.js";

export function textOf(example, { label, seen, reload }) {
  const box = h("div", { class: "text" });
  const tools = h("div", { class: "texttools" });
  const marks = example.words || [];
  const patterns = h("div", { class: "patterns", "data-testid": "patterns" });
  let marking = false;
  let looking = null; // at "attention" or "units"
  let found = null; // the pieces with their weights
  let said = shared.run.words ? T.words.waiting : T.words.absent;

  function draw() {
    const part = (name) => {
      if (marking) return choosable(example.pieces[name], marks, choose);
      return paragraph(found?.[name] || example.pieces[name].map((piece) => [piece, null]), { marks, "data-testid": found && name === "text" ? "coloured" : undefined });
    };
    fill(box, part("text"), example.reply === null ? null : h("div", { class: "reply" }, part("reply")));
    const turn = () => ((marking = !marking), draw());
    fill(
      tools,
      shared.run.words && !marking ? ["attention", "units"].map((what) => button(looking === what ? T[what].hide : T[what].show, () => look(what), { kind: "small", test: what, title: T[what].help })) : null,
      button(marking ? T.words.done : T.words.mark, turn, { kind: "small", test: "mark-words", title: T.words.kept }),
      h("span", { class: "muted", "data-testid": "words-note" }, marking ? [T.words.help, " ", T.words.kept] : said),
    );
  }

  // Who looks where (the report's view), or what a unit does: fetched with the first text that is asked about.
  async function look(what) {
    looking = looking === what ? null : what;
    draw();
    if (!looking) return fill(patterns);
    if (what === "units") return unitView(patterns, example.uid);
    fill(patterns, h("p", { class: "muted" }, T.attention.waiting));
    try {
      const [{ attentionView }, found] = await Promise.all([import("./attention.js"), get("attention", { uid: example.uid, version: shared.version })]);
      if (looking === what && box.isConnected) attentionView(patterns, found);
    } catch (error) {
      if (looking === what) fill(patterns, h("p", { class: "muted" }, T.attention.failed(error.message)));
    }
  }

  async function colour() {
    try {
      const answer = await weighed(box, example.uid, label);
      if (!answer) return;
      found = answer.text.length ? answer : null;
      said = [T.words.shown(label), " ", answer.fall ? T.words.fall(signed(-answer.fall.words), signed(-answer.fall.random)) : "", " ", cut(answer)];
    } catch (error) {
      said = T.words.failed(error.message);
    }
    if (!marking && box.isConnected) draw();
  }

  async function choose(word) {
    const actor = await whoever();
    if (!actor) return;
    const now = markOn(word, marks);
    const chosen = await ask({
      title: [`${T.words.which} “`, visible(word), "”"],
      help: T.words.kept,
      body: [
        choice("matters", [["no", T.words.not], ["yes", T.words.does], ["none", T.words.none]], now?.matters ? "yes" : "no"),
        choice("scope", [["example", T.words.here], ["all", T.words.everywhere]], now?.scope),
      ],
    });
    if (!chosen) return;
    const matters = { no: false, yes: true, none: null }[chosen.matters];
    try {
      const told = await post("mark", { actor, uid: example.uid, word, matters, scope: chosen.scope, seen: seen(), had: markOn(word, marks, chosen.scope)?.row || 0 });
      shared.run = { ...shared.run, ...told };
      const said = { no: T.words.not, yes: T.words.does, none: T.words.none }[chosen.matters];
      toast([visible(word), `: ${said}. ${chosen.scope === "all" ? T.words.held(told.held) : ""}`]);
      reload();
    } catch (error) {
      failed(error);
    }
  }

  draw();
  colour();
  return [box, tools, patterns];
}

// What is said of the ends of the texts that the model did not read.
function cut(answer) {
  const length = (part) => part.slice(part.length - unread(part)).reduce((sum, [piece]) => sum + piece.length, 0);
  const n = length(answer.text) + length(answer.reply);
  return n ? T.words.unread(n) : "";
}

function choice(name, options, value = options[0][0]) {
  return h(
    "fieldset",
    {},
    h("legend", {}, T.words.groups[name]),
    options.map(([key, label]) => h("label", { class: "radio" }, h("input", { type: "radio", name, value: key, checked: key === value }), label)),
  );
}

// Characters of a word that can be marked.
const LONGEST = 200;

// Every second piece is a word; the last is the rest of the text.
function choosable(pieces, marks, choose) {
  const rest = pieces[pieces.length - 1];
  const parts = pieces.slice(0, -1).map((piece, i) =>
    i % 2 && piece.length <= LONGEST ? h("button", { type: "button", class: `word ${markOf(piece, marks)}`, "data-testid": "word", on: { click: () => choose(piece) } }, spelled(piece)) : spelled(piece),
  );
  return h("p", { dir: "auto" }, parts, rest.length > 1 ? ` … ${T.words.more((pieces.length - 1) / 2)}` : spelled(rest));
}
