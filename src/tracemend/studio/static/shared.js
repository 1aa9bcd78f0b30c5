// What all views know: the run, the version at hand, who sits here; and the small things they all show.
import { fill, h } from "./dom.js";
import { T } from "./strings.js";

export const shared = { run: null, version: "", actor: localStorage.getItem("actor") || "", job: null };

export function versionOf(name) {
  return shared.run.versions.find((one) => one.name === name);
}

export function chip(label, { tone = "", title } = {}) {
  const at = shared.run.labels.indexOf(label);
  const kind = tone || (at >= 0 ? `l${at % 6}` : "");
  return h("span", { class: `chip ${kind}`, title }, label);
}

export function arrow(from, to) {
  return h("span", { class: "arrow" }, chip(from), h("span", { class: "to", "aria-label": "→" }, "→"), chip(to));
}

// A bar from the middle: right and blue for what holds, left and orange for what pushes away.
export function bar(value, most, title) {
  const inside = h("span", { class: value < 0 ? "away" : "towards" });
  inside.style.width = `${Math.min(50, (Math.abs(value) / (most || 1)) * 50)}%`;
  return h("span", { class: "bar", role: "img", "aria-label": `${T.evidence.influence} ${title}`, title }, inside);
}

let timer;

// back: what takes back that which is told.
export function toast(text, { bad = false, back } = {}) {
  const place = document.getElementById("toast");
  const undo = back ? h("button", { type: "button", class: "small", "data-testid": "toast-undo", on: { click: () => (fill(place), back()) } }, T.act.undo) : null;
  fill(place, h("p", { class: bad ? "bad" : "" }, text, undo));
  clearTimeout(timer);
  timer = setTimeout(() => fill(place), bad ? 12000 : 5000);
}

export function failed(error) {
  if (error.offline) toast(T.offline, { bad: true });
  else toast(error.conflict ? `${T.act.conflict}. ${error.message}` : error.message || String(error), { bad: true });
}

export function button(label, act, { kind = "", key, title, disabled = false, test } = {}) {
  return h(
    "button",
    { type: "button", class: kind, title, disabled, "data-testid": test, on: { click: act } },
    label,
    key ? h("kbd", { "aria-hidden": "true" }, key) : null,
  );
}

// A dialog with a form; resolves to the form's values, or null where it was closed.
export function ask({ title, help, body, yes = T.save }) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const form = h(
      "form",
      {
        method: "dialog",
        on: {
          submit: (event) => {
            event.preventDefault();
            const values = Object.fromEntries(new FormData(form));
            dialog.onclose = null;
            dialog.close();
            resolve(values);
          },
        },
      },
      h("h2", { id: "dialog-title" }, title),
      help ? h("p", { class: "muted" }, help) : null,
      body,
      h(
        "div",
        { class: "actions" },
        yes ? h("button", { class: "primary", "data-testid": "yes" }, yes) : null,
        h("button", { type: "button", on: { click: () => dialog.close() } }, yes ? T.cancel : T.close),
      ),
    );
    fill(dialog, form);
    dialog.onclose = () => resolve(null);
    dialog.showModal();
  });
}

export async function whoever() {
  if (shared.actor) return shared.actor;
  return rename();
}

export async function rename() {
  const found = await ask({
    title: T.act.nameTitle,
    help: T.act.nameHelp,
    body: h("label", {}, T.name, h("input", { name: "name", required: true, maxlength: "80", value: shared.actor, autocomplete: "name" })),
  });
  const name = found?.name.trim();
  if (name) {
    shared.actor = name;
    localStorage.setItem("actor", name);
    document.dispatchEvent(new CustomEvent("renamed"));
  }
  return name || "";
}
