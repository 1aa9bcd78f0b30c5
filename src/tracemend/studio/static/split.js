// A list beside a detail; on a narrow screen one or the other. And the line of tools above the list.
import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { Grid } from "./grid.js";
import { go, place } from "./place.js";
import { shared } from "./shared.js";
import { T } from "./strings.js";

// What the lists have in common: their rows come from the server, what they show stands in the address.
// words: the strings of the list; first, sort, desc: what is shown where the address says nothing.
export function listed(name, { words, first, sort, desc, about, also = () => ({}), ...grid }) {
  const sorted = () => ({ sort: place().sort || sort, desc: place().desc ? place().desc === "1" : desc });
  const asked = () => ({ version: shared.version, show: place().show || first, q: place().q, ...also() });
  const list = new Grid({
    label: words.title,
    fetch: (offset, limit, keep) => get(name, { ...asked(), ...sorted(), keep, offset, limit }),
    sorted,
    sort: (column, down) => go({ sort: column, desc: down ? "1" : "0" }),
    pick: (row, _, { enter }) => go({ uid: row.uid, ex: "" }, { step: enter }),
    ...grid,
  });
  const tools = toolbar({ shows: words.show, first, sorts: words.sorts, sorted, hint: T.search[name] });
  const detail = h("section", { class: "detail", "aria-label": about, "data-testid": "detail" });
  const left = h("section", { class: "list", "aria-label": words.title }, h("h1", { class: "unseen-label" }, words.title), tools.element, list.whole);
  const element = h("div", { class: "split" }, left, detail);
  return {
    grid: list,
    tools,
    detail,
    element,
    async load() {
      const found = await list.load({ keep: place().uid || null });
      tools.update(found);
      return found;
    },
    recount: () => get(name, { ...asked(), limit: 1 }).then(tools.update, () => {}),
  };
}

// Several chosen at once, with what can be done to all of them: keys are not everywhere.
export function chosenLine(buttons, clear) {
  const element = h("div", { class: "chosenline", hidden: true });
  return {
    element,
    draw(rows) {
      element.hidden = !rows.length;
      if (rows.length) fill(element, h("span", { "data-testid": "chosen" }, T.chosen(rows.length)), buttons(rows), clear());
      else fill(element);
    },
  };
}

const LABEL = /(^|\s)label[:=](?:"([^"]*)"|(\S+))/i;

// The label that a query asks for, and the query with another one.
function labelOf(query) {
  const found = LABEL.exec(query);
  const wanted = (found?.[2] ?? found?.[3] ?? "").toLowerCase();
  return shared.run.labels.find((label) => label.toLowerCase() === wanted) || "";
}

function withLabel(query, label) {
  const rest = query.replace(LABEL, "$1").trim();
  const term = label && `label:${/\s/.test(label) ? `"${label}"` : label}`;
  return [term, rest].filter(Boolean).join(" ");
}

function toolbar({ shows, first, sorts, sorted, hint }) {
  const group = h("div", { class: "segments", role: "group", "aria-label": T.show });
  const input = h("input", {
    type: "search",
    placeholder: hint,
    "aria-label": T.searchLabel,
    maxlength: "500",
    "data-testid": "search",
    value: place().q || "",
    on: {
      input: () => {
        clearTimeout(input.timer);
        input.timer = setTimeout(() => go({ q: input.value }), 250);
      },
    },
  });
  const label = h(
    "select",
    { "aria-label": T.byLabel, "data-testid": "by-label", on: { change: () => ((input.value = withLabel(place().q || "", label.value)), go({ q: input.value })) } },
    h("option", { value: "" }, T.anyLabel),
    // A query has no way to write a quote inside quotes.
    shared.run.labels.filter((name) => !name.includes('"')).map((name) => h("option", { value: name }, name)),
  );
  const sort = h(
    "select",
    { "aria-label": T.sort, on: { change: () => go({ sort: sort.value }) } },
    Object.entries(sorts).map(([value, name]) => h("option", { value }, name)),
  );
  const turn = h("button", { type: "button", class: "icon", "aria-label": T.direction, title: T.direction, on: { click: () => go({ desc: sorted().desc ? "0" : "1" }) } });
  const hits = h("p", { class: "muted small", role: "status", "data-testid": "hits", hidden: true });
  let counts = {};
  let against = null;

  function draw() {
    const now = place().show || first;
    // Without a model before nothing can have flipped.
    const there = Object.entries(shows).filter(([name]) => name !== "flipped" || against || now === name);
    fill(
      group,
      there.map(([name, title]) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(name === now), "data-testid": `show-${name}`, on: { click: () => go({ show: name === first ? "" : name }) } },
          title,
          counts[name] === undefined ? null : h("span", { class: "count" }, ` ${counts[name]}`),
        ),
      ),
    );
    sort.value = sorted().sort;
    fill(turn, sorted().desc ? "↓" : "↑");
    if (document.activeElement !== input) input.value = place().q || "";
    label.value = labelOf(place().q || "");
  }
  draw();
  return {
    element: h("div", { class: "tools" }, group, h("div", { class: "searching" }, input, label), hits, h("div", { class: "sorting narrow" }, sort, turn)),
    update(found) {
      counts = found.counts || counts;
      against = found.against === undefined ? against : found.against;
      hits.hidden = !place().q || !found.total;
      fill(hits, T.hits(found.total));
      draw();
    },
    search: () => input.focus(),
  };
}
