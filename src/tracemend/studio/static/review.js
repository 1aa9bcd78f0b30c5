// Deciding: one way for keys, buttons and several examples at once.
import { post } from "./api.js";
import { h } from "./dom.js";
import { ask, failed, shared, toast, whoever } from "./shared.js";
import { T } from "./strings.js";

const listeners = new Set();

// Told of rows that changed: (rows, pulse).
export function decided(act) {
  listeners.add(act);
}

function tell(found) {
  for (const act of listeners) act(found.rows, found);
}

export async function act(rows, what, value) {
  if (!rows.length) {
    toast(T.act.nothing);
    return false;
  }
  if (what === "accept" && rows.some((row) => !row.suggestion)) {
    toast(T.act.noSuggestion);
    return false;
  }
  const actor = await whoever();
  if (!actor) return false;
  const seen = Object.fromEntries(rows.map((row) => [row.uid, row.seen]));
  try {
    const found = await post("decide", { actor, seen, act: what, value, version: shared.version });
    toast(said(what, rows, value), { back: () => undo(found.done[0]) });
    tell(found);
    return true;
  } catch (error) {
    failed(error);
    if (error.conflict) document.dispatchEvent(new CustomEvent("stale"));
    return false;
  }
}

function said(what, rows, value) {
  const n = rows.length;
  if (what === "label" && rows.every((row) => row.given === value)) return T.act.done.keep(n);
  if (what === "label") return T.act.done.label(n, value);
  if (what === "accept" && n === 1) return T.act.done.label(1, rows[0].suggestion);
  return T.act.done[what](n);
}

export async function undo(row) {
  const actor = await whoever();
  if (!actor) return;
  try {
    const found = await post("undo", { actor, row, version: shared.version });
    toast(T.act.undone(found.undone.length));
    tell(found);
  } catch (error) {
    failed(error);
  }
}

export async function comment(rows) {
  if (!rows.length) {
    toast(T.act.nothing);
    return;
  }
  const actor = await whoever();
  if (!actor) return;
  const found = await ask({
    title: T.act.commentTitle,
    help: T.act.commentHelp,
    body: h("label", {}, T.act.commentTitle, h("textarea", { name: "text", rows: "4", required: true, maxlength: "4000" })),
  });
  if (found?.text.trim()) await act(rows, "comment", found.text.trim());
}
