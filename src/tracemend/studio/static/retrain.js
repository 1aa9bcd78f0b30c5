// Training a new model, and the models there are.
import { post } from "./api.js";
import { fill, h, percent, seconds, svg, when } from "./dom.js";
import { go } from "./place.js";
import { button, failed, shared, whoever } from "./shared.js";
import { T } from "./strings.js";

export function retrainView({ refresh }) {
  const form = h("section", { class: "panel" });
  const work = h("section", { class: "panel", "data-testid": "job", "aria-label": T.retrain.title });
  const models = h("section", { class: "panel" });
  let basis = "people";
  let note = "";
  // One and the same field whenever the form is drawn, or what is typed meanwhile would go elsewhere.
  const field = h("input", { maxlength: "500", on: { input: (event) => (note = event.target.value) } });

  async function start() {
    const actor = await whoever();
    if (!actor) return;
    try {
      await post("retrain", { basis, actor, note, version: shared.version });
      note = field.value = "";
      await refresh();
    } catch (error) {
      failed(error);
    }
  }

  function drawForm() {
    const { decided, reviewed, proposed, marks, job } = shared.run;
    const running = job?.state === "running";
    const enough = decided > 0 || marks > 0 || (basis === "all" && proposed > 0);
    const radio = (value, label) =>
      h("label", { class: "radio" }, h("input", { type: "radio", name: "basis", value, checked: basis === value, on: { change: () => ((basis = value), drawForm()) } }), label);
    const typing = document.activeElement === field;
    fill(
      form,
      h("h1", {}, T.retrain.title),
      h("p", { "data-testid": "summary" }, T.retrain.summary(reviewed, decided)),
      proposed ? h("fieldset", {}, h("legend", {}, T.retrain.basis), radio("people", T.retrain.people), radio("all", T.retrain.all(proposed))) : null,
      h("label", { class: "block" }, T.retrain.note, field),
      h("div", { class: "actions" }, button(T.retrain.start, start, { kind: "primary", disabled: running || !enough, test: "retrain", title: marks ? T.retrain.words(marks) : undefined }), enough ? null : button(T.retrain.go, () => go({ tab: "suspects", uid: "", ex: "" }, { step: true }), { kind: "plain" })),
      h("p", { class: "muted" }, running ? T.retrain.running : enough ? T.retrain.afresh : T.retrain.nothing),
      marks ? h("p", { class: "muted", "data-testid": "marks-note" }, T.retrain.words(marks)) : null,
    );
    if (typing) field.focus();
  }

  function drawJob() {
    const { job } = shared.run;
    // That evidence was computed is no news here.
    work.hidden = !job || (job.kind === "prepare" && job.state === "done");
    if (work.hidden) return;
    const held = [...work.querySelectorAll("button")].indexOf(document.activeElement);
    fill(work, jobOf(job, { refresh }));
    if (held >= 0) work.querySelectorAll("button")[held]?.focus();
  }

  function drawModels() {
    const { versions, current } = shared.run;
    const lines = versions.map((v) =>
      h(
        "tr",
        { "data-testid": "model", "data-name": v.name },
        h("th", { scope: "row" }, v.title, v.name === current ? h("span", { class: "tag" }, T.retrain.used) : null, h("div", { class: "muted small" }, [v.actor, v.made && when(v.made)].filter(Boolean).join(", ")), v.note ? h("div", { class: "small" }, v.note) : null),
        h("td", { "data-name": T.retrain.columns[1] }, T.retrain.basisOf[v.basis]),
        h("td", { class: "number", "data-name": v.changes ? T.retrain.columns[2] : undefined }, v.changes || ""),
        h("td", { class: "number", "data-name": T.retrain.columns[3] }, v.figures.validation ? v.figures.validation.ap.toFixed(3) : "–"),
        h(
          "td",
          {},
          h("div", { class: "actions end" },
          v.name === current ? null : button(T.retrain.use, () => use(v.name), { kind: "small", test: "use" }),
          v.prepared ? null : button(T.retrain.prepare, () => prepare(v.name), { kind: "small", test: "prepare", disabled: shared.run.job?.state === "running" }),
          v.parent ? button(T.retrain.compare, () => go({ tab: "compare", before: v.parent, after: v.name }, { step: true }), { kind: "small", test: "to-compare" }) : null),
        ),
      ),
    );
    fill(
      models,
      h("h2", {}, T.retrain.versions),
      h("div", { class: "wide" }, h("table", { class: "cardlike" }, h("thead", {}, h("tr", {}, T.retrain.columns.map((name) => h("th", { scope: "col" }, name || h("span", { class: "unseen-label" }, T.retrain.use))))), h("tbody", {}, lines))),
    );
  }

  async function use(name) {
    try {
      await post("use", { version: name });
      go({ version: "", uid: "", ex: "" }, { quiet: true });
      await refresh();
    } catch (error) {
      failed(error);
    }
  }

  async function prepare(name) {
    try {
      await post("prepare", { version: name });
      await refresh();
    } catch (error) {
      failed(error);
    }
  }

  const draw = () => (drawForm(), drawJob(), drawModels());
  return {
    element: h("div", { class: "page" }, form, work, models),
    load: async () => draw(),
    show: () => {},
    tick: () => drawJob(),
    redraw: draw,
  };
}

export function jobOf(job, { refresh }) {
  const running = job.state === "running";
  const again = async () => {
    try {
      if (job.kind === "prepare") await post("prepare", { version: job.asked.version });
      else await post("retrain", { basis: job.asked.basis, actor: job.asked.actor, version: shared.version });
      await refresh();
    } catch (error) {
      failed(error);
    }
  };
  const stop = async () => {
    try {
      await post("cancel");
      await refresh();
    } catch (error) {
      failed(error);
    }
  };
  const parent = shared.run.versions.find((v) => v.name === job.version)?.parent;
  return [
    h("h2", {}, T.job[job.kind]),
    running
      ? [
          h("p", { class: "stage" }, h("span", { "data-testid": "stage" }, T.job.stages[job.stage] || ""), job.left ? h("span", { class: "muted" }, ` – ${T.job.left(seconds(job.left))}`) : null),
          progress(job),
        ]
      : h("p", { class: job.state === "failed" ? "bad" : "", "data-testid": "job-state", "data-state": job.state }, T.job[job.state], job.message ? ` ${job.message}` : ""),
    job.epochs.length > 1 ? chart(job.epochs) : null,
    h(
      "div",
      { class: "actions" },
      running ? button(T.job.cancel, stop, { kind: "small", test: "cancel" }) : null,
      !running && job.state !== "done" ? button(T.job.again, again, { kind: "small" }) : null,
      job.state === "done" && job.kind === "retrain" ? [button(T.job.compare, () => go({ tab: "compare", before: parent, after: job.version }, { step: true }), { kind: "primary small", test: "job-compare" }), button(T.job.look, () => go({ tab: "errors", version: job.version, uid: "", ex: "" }, { step: true }), { kind: "small" })] : null,
    ),
  ];
}

function progress(job) {
  const inside = h("span", {});
  inside.style.width = percent(job.share || 0).replace(" ", "");
  return h("div", { class: "progress", role: "progressbar", "aria-label": T.job.stages[job.stage] || T.job[job.kind], "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round((job.share || 0) * 100)) }, inside);
}

// Two lines over the epochs, each on its own scale: the loss falls, AP should rise.
function chart(epochs) {
  const [width, height] = [320, 90];
  const line = (values, name) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = values.map((v, i) => [10 + (i * (width - 20)) / Math.max(1, values.length - 1), height - 12 - ((v - low) / (high - low || 1)) * (height - 24)]);
    return svg("polyline", { points: points.map((p) => p.map((x) => x.toFixed(1)).join(",")).join(" "), class: `line ${name}` });
  };
  const last = epochs[epochs.length - 1];
  const best = Math.max(...epochs.map((e) => e.ap));
  return h(
    "figure",
    { class: "chart" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": T.retrain.chart }, line(epochs.map((e) => e.loss), "loss"), line(epochs.map((e) => e.ap), "ap")),
    h("figcaption", { class: "muted" }, h("span", { class: "key loss" }), `${T.retrain.loss} ${last.loss.toFixed(3)}`, " ", h("span", { class: "key ap" }), `${T.retrain.ap} ${last.ap.toFixed(3)}`, last.ap < best ? T.retrain.best(best.toFixed(3)) : ""),
  );
}
