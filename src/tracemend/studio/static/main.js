// The page: its head, its views, its keys, and what it asks the server every now and then.
import { get } from "./api.js";
import { compareView } from "./compare.js";
import { fill, h } from "./dom.js";
import { errorsView } from "./errors.js";
import { historyView } from "./history.js";
import { go, moved, place } from "./place.js";
import { jobOf, retrainView } from "./retrain.js";
import { act, comment, decided, undo } from "./review.js";
import { ask, button, failed, rename, shared, toast } from "./shared.js";
import { T } from "./strings.js";
import { suspectsView } from "./suspects.js";

const TABS = { errors: errorsView, suspects: suspectsView, retrain: () => retrainView({ refresh }), compare: compareView, history: historyView };
const main = document.getElementById("main");
const banner = h("section", { class: "banner", hidden: true, "aria-live": "off" });
let view = null;
let tab = "";
let shown = "";
let away = false;

function header() {
  const versions = h(
    "select",
    { "aria-label": T.version, "data-testid": "version", on: { change: () => go({ version: versions.value === shared.run.current ? "" : versions.value, uid: "", ex: "" }, { step: true }) } },
    shared.run.versions.map((v) => h("option", { value: v.name }, v.title)),
  );
  versions.value = shared.version;
  fill(
    document.getElementById("header"),
    h("span", { class: "brand" }, "Tracemend"),
    h("span", { class: "run", title: shared.run.run }, shared.run.name),
    h("label", { class: "versions" }, h("span", { class: "unseen-label" }, T.version), versions),
    h(
      "nav",
      { "aria-label": T.app },
      Object.entries(T.tabs).map(([name, label]) =>
        h("a", { href: `/?tab=${name}`, "aria-current": name === tab ? "page" : undefined, "data-testid": `tab-${name}`, on: { click: (event) => (event.preventDefault(), go({ tab: name, uid: "", ex: "", q: "", show: "", sort: "", desc: "" }, { step: true })) } }, label),
      ),
    ),
    h(
      "span",
      { class: "right" },
      h("button", { type: "button", class: "plain", title: T.name, "data-testid": "name", on: { click: rename } }, shared.actor || T.name),
      h("button", { type: "button", class: "icon", "aria-label": T.theme, title: T.theme, "data-testid": "theme", on: { click: turn } }, "◐"),
      h("button", { type: "button", class: "icon", "aria-label": T.help, title: T.help, on: { click: help } }, "?"),
    ),
  );
  document.title = `${T.tabs[tab]} – ${shared.run.name} – ${T.app}`;
}

function turn() {
  const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const next = dark === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
}

function help() {
  const rows = T.keys.rows.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)));
  const labels = shared.run.labels.slice(0, 9).map((label, i) => h("div", {}, h("dt", {}, h("kbd", {}, i + 1)), h("dd", {}, label)));
  ask({ title: T.keys.title, body: [h("dl", { class: "keys" }, rows), h("p", {}, T.keys.labels), h("dl", { class: "keys" }, labels), h("p", { class: "muted" }, T.keys.slice)], yes: "" });
}

function hint() {
  const box = document.getElementById("hint");
  if (localStorage.getItem("hinted")) return;
  const done = () => (localStorage.setItem("hinted", "1"), fill(box));
  fill(box, h("section", { class: "hint", "aria-label": T.hint.title }, h("div", {}, h("h2", {}, T.hint.title), h("ol", {}, T.hint.steps.map((step) => h("li", {}, step))), h("p", { class: "muted" }, T.hint.more)), button(T.hint.done, done, { kind: "small", test: "hint-done" })));
}

// Ask for everything that the head and the models show.
async function refresh() {
  shared.run = await get("state");
  const wanted = place().version;
  shared.version = shared.run.versions.some((v) => v.name === wanted) ? wanted : shared.run.current;
  drawJob();
  header();
  view?.redraw?.();
}

// What of the address asks for other rows, and what only for another detail.
const rowsOf = (at) => JSON.stringify([at.tab, at.version, at.show, at.q, at.sort, at.desc, at.against, at.before, at.after]);

async function follow(at) {
  const wanted = TABS[at.tab] ? at.tab : "errors";
  const version = shared.run.versions.some((v) => v.name === at.version) ? at.version : shared.run.current;
  if (wanted !== tab || version !== shared.version || !view) {
    tab = wanted;
    shared.version = version;
    view = TABS[tab]();
    main.replaceChildren(banner, view.element);
    main.dataset.tab = tab;
    drawJob();
    header();
    shown = "";
  }
  try {
    if (rowsOf(at) !== shown) {
      shown = rowsOf(at);
      await view.load();
      main.dataset.ready = "1";
    } else await view.show();
  } catch (error) {
    failed(error);
  }
}

function drawJob() {
  const { job } = shared.run;
  const known = shared.run.versions.find((v) => v.name === shared.version);
  const lists = tab === "errors" || tab === "suspects";
  // In the lists the work is shown while what it computes is missing there.
  const missing = known && !(tab === "errors" ? known.predicted && known.prepared : known.prepared);
  banner.hidden = !(lists && missing);
  if (banner.hidden) return;
  const prepare = async () => {
    try {
      const { post } = await import("./api.js");
      await post("prepare", { version: shared.version });
      await pulse();
    } catch (error) {
      failed(error);
    }
  };
  const mine = job && (job.asked.version === shared.version || job.version === shared.version || job.state === "running");
  fill(banner, mine && job.state !== "done" ? jobOf(job, { refresh: pulse }) : [h("h2", {}, T.retrain.prepare), h("p", { class: "actions" }, button(T.retrain.prepare, prepare, { kind: "primary small", test: "prepare-here" }))]);
}

let known = "";

async function pulse() {
  let found;
  try {
    found = await get("pulse");
  } catch (error) {
    if (!away && error.offline) {
      away = true;
      failed(error);
    }
    return 2000;
  }
  if (away) toast(T.ok);
  away = false;
  const before = shared.run;
  const stage = JSON.stringify([found.job?.number, found.job?.state, found.job?.stage]);
  // What this page did itself it knows already; under the same name another tab may have decided.
  if (found.ledger > before.ledger) {
    if (found.by !== shared.actor) toast(T.act.others(found.by));
    shared.run = { ...before, ...found };
    if (view.grid) await reload();
    else view.redraw?.();
  }
  shared.run = { ...shared.run, ...found };
  if (known && stage !== known) {
    await refresh();
    if (view.grid) await reload();
  }
  known = stage;
  drawJob();
  view.tick?.();
  return found.job?.state === "running" ? 700 : 2500;
}

async function reload() {
  const at = view.grid.cursor;
  const top = view.grid.scroller.scrollTop;
  await view.load();
  view.grid.scroller.scrollTop = top;
  // Of a row that is gone its place stays: the next step goes on from there.
  if (view.grid.cursor < 0 && at >= 0) view.grid.gap = at;
}

decided((rows, found) => {
  shared.run = { ...shared.run, ...found };
  view.changed?.(rows);
  if (found.undone?.some((d) => d.kind === "word")) view.show?.(); // its text may be of validation, which has no row here
});
document.addEventListener("stale", () => view.grid && reload());
document.addEventListener("renamed", header);

async function decide(what, value) {
  const rows = view.targets?.() || [];
  if (await act(rows, what, value)) view.after?.();
}

const KEYS = {
  j: () => view.next?.(1),
  k: () => view.next?.(-1),
  ArrowDown: () => view.next?.(1),
  ArrowUp: () => view.next?.(-1),
  Enter: () => view.enter?.(),
  Escape: () => view.leave?.(),
  a: () => view.targets && decide("accept"),
  x: () => view.targets && decide("remove"),
  s: () => view.after?.(),
  u: () => view.grid && undo(),
  c: () => view.targets && comment(view.targets()),
  " ": () => view.choose?.(),
  "/": () => view.search?.(),
  "?": help,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  const on = event.target;
  if (on.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") on.blur();
    return;
  }
  // A button that has the focus is pressed by Enter and Space, and moves on by no arrow.
  if (on.matches("button, a, summary") && ["Enter", " "].includes(event.key)) return;
  if (event.key.startsWith("Arrow") && !on.closest(".grid") && on !== document.body) return;
  const digit = /^[1-9]$/.test(event.key) ? shared.run.labels[Number(event.key) - 1] : undefined;
  const does = digit && view.targets ? () => decide("label", digit) : KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

async function begin() {
  fill(document.getElementById("skip"), T.skip);
  fill(main, h("p", { class: "empty" }, T.loading));
  try {
    await refresh();
  } catch (error) {
    fill(main, h("p", { class: "empty bad" }, error.offline ? T.offline : error.message));
    setTimeout(begin, 2000);
    return;
  }
  hint();
  moved(follow);
  await follow(place());
  const beat = async () => setTimeout(beat, (await pulse().catch((error) => (failed(error), 2500))) || 2500);
  beat();
}

begin();
