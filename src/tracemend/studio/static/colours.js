// Words coloured by saliency: asked for once a text has been looked at for a moment, and kept.
import { get, Refused } from "./api.js";
import { fill, h, signed, spelled } from "./dom.js";
import { button, shared } from "./shared.js";
import { T } from "./strings.js";

// Milliseconds that a text must be looked at; answers that are kept; characters that are shown of a very long text.
const DWELL = 150;
const KEPT = 200;
const LONGEST = 20000;
const known = new Map();
const asking = {}; // by place on the page: what was asked for there before, nobody looks at any more

// {text, reply: [[piece, weight]], fall}; null where there are no colours or the text is gone from the page.
export async function weighed(box, uid, label) {
  if (!shared.run.words) return null;
  const key = JSON.stringify([shared.version, uid, label]);
  if (!known.has(key)) {
    const at = box.className;
    if (asking[at]?.key !== key) {
      asking[at]?.controller.abort();
      const controller = new AbortController();
      asking[at] = { key, controller, answer: answered(key, uid, label, controller.signal) };
    }
    const mine = asking[at];
    try {
      await mine.answer;
    } catch (error) {
      if (error.dropped) return null;
      throw error;
    } finally {
      if (asking[at] === mine) delete asking[at];
    }
  }
  return box.isConnected ? known.get(key) : null;
}

async function answered(key, uid, label, signal) {
  await new Promise((done) => setTimeout(done, DWELL));
  if (signal.aborted) throw new Refused("", { dropped: true });
  const found = await get("words", { uid, label, version: shared.version }, { signal });
  const part = (name) => found.words.filter(([of]) => of === name).map(([, piece, weight]) => [piece, weight]);
  known.set(key, { text: part("text"), reply: part("reply"), fall: found.fall });
  if (known.size > KEPT) known.delete(known.keys().next().value);
}

// A paragraph of pieces [piece, weight], weight null for what is not coloured, with the marks of people.
export function paragraph(pieces, { marks = [], ...props } = {}) {
  const place = h("p", { dir: "auto", ...props });
  const whole = pieces.reduce((sum, [piece]) => sum + piece.length, 0);
  if (whole <= LONGEST) return fill(place, drawn(pieces, marks));
  const first = [];
  let room = LONGEST;
  for (const [piece, weight] of pieces) {
    if (room <= 0) break;
    first.push([piece.slice(0, room), weight]);
    room -= piece.length;
  }
  const rest = button(T.words.rest(whole - LONGEST), () => fill(place, drawn(pieces, marks)), { kind: "small", test: "rest" });
  return fill(place, drawn(first, marks), " ", rest);
}

// The end of a text that the model did not read: as many pieces, by what was weighed before; 0 where it read all.
export function unread(pieces) {
  const last = pieces.findLastIndex(([, weight]) => weight !== null);
  const end = pieces.slice(last + 1);
  return last >= 0 && end.some(([piece]) => /[\p{L}\p{N}]/u.test(piece)) ? end.length : 0;
}

function drawn(pieces, marks) {
  const end = pieces.length - unread(pieces);
  return pieces.map(([piece, weight], i) => {
    if (weight === null) return marked(piece, marks, i < end ? null : { class: "muted" });
    const one = marked(piece, marks, { class: weight < 0 ? "w-away" : "w-towards", title: signed(weight) });
    one.style.setProperty("--w", String(Math.abs(weight)));
    return one;
  });
}

function marked(word, marks, props = null) {
  const mark = markOf(word, marks);
  if (!mark && !props) return spelled(word);
  const said = mark && (mark === "ignore" ? T.words.not : T.words.does);
  const title = [props?.title, said].filter(Boolean).join(", ");
  return h("span", { class: [props?.class, mark && `word ${mark}`].filter(Boolean).join(" "), title }, spelled(word));
}

// The mark that a word carries, of any scope or of this one. As the training takes them: case does not count, and what was
// said of this one example goes before all else.
export function markOn(word, marks, scope = null) {
  const same = marks.filter((mark) => mark.word.toLowerCase() === word.toLowerCase() && (!scope || mark.scope === scope));
  return same.findLast((mark) => mark.scope === "example") || same[same.length - 1];
}

export function markOf(word, marks) {
  const found = markOn(word, marks);
  return found ? (found.matters ? "matters" : "ignore") : "";
}
