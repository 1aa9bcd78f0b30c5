// A list beside a detail; on a narrow screen one or the other. And the line of tools above the list.
import { fill, h } from "./dom.js";
import { go, place } from "./place.js";
import { T } from "./strings.js";

export function split(grid, tools, detail, title) {
  const list = h("section", { class: "list", "aria-label": title }, h("h1", { class: "unseen-label" }, title), tools.element, grid.whole);
  return { element: h("div", { class: "split" }, list, detail) };
}

export function toolbar({ shows, first, sorts, sorted }) {
  const group = h("div", { class: "segments", role: "group", "aria-label": T.show });
  const input = h("input", {
    type: "search",
    placeholder: T.search,
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
  const sort = h(
    "select",
    { "aria-label": T.sort, on: { change: () => go({ sort: sort.value }) } },
    Object.entries(sorts).map(([value, label]) => h("option", { value }, label)),
  );
  const turn = h("button", { type: "button", class: "icon", "aria-label": T.direction, title: T.direction, on: { click: () => go({ desc: sorted().desc ? "0" : "1" }) } });
  let counts = {};

  function draw() {
    const now = place().show || first;
    fill(
      group,
      Object.entries(shows).map(([name, label]) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(name === now), "data-testid": `show-${name}`, on: { click: () => go({ show: name === first ? "" : name }) } },
          label,
          counts[name] === undefined ? null : h("span", { class: "count" }, ` ${counts[name]}`),
        ),
      ),
    );
    sort.value = sorted().sort;
    fill(turn, sorted().desc ? "↓" : "↑");
    if (document.activeElement !== input) input.value = place().q || "";
  }
  draw();
  return {
    element: h("div", { class: "tools" }, group, input, h("div", { class: "sorting narrow" }, sort, turn)),
    update(found) {
      counts = found || {};
      draw();
    },
    search: () => input.focus(),
  };
}
