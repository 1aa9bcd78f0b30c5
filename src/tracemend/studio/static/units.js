// What a unit of the model does on a text, token by token, chosen by site and number.
import { get } from "./api.js";
import { paragraph } from "./colours.js";
import { fill, h, percent, signed } from "./dom.js";
import { shared } from "./shared.js";
import { T } from "./strings.js";

// What was asked for last, so that the same unit is seen on one text after another.
const at = { site: "", unit: "" };

export function unitView(root, uid) {
  const said = h("div", { class: "unitsaid", "aria-live": "polite" });
  const site = h("select", { "data-testid": "unit-site", on: { change: () => ((at.site = site.value), (at.unit = number.value = ""), show()) } });
  const number = h("input", { type: "number", min: "0", step: "1", "data-testid": "unit-number", placeholder: T.units.furthest, value: at.unit, on: { change: () => ((at.unit = number.value), show()) } });
  let asked = 0;

  async function show() {
    const mine = (asked += 1);
    fill(said, h("p", { class: "muted" }, T.units.waiting));
    try {
      const found = await get("unit", { uid, version: shared.version, site: at.site, unit: at.unit });
      if (mine !== asked || !root.contains(said)) return;
      if (!site.options.length) fill(site, found.sites.map((name) => h("option", { value: name }, name)));
      site.value = found.site;
      fill(said, coloured(found));
    } catch (error) {
      if (mine === asked) fill(said, h("p", { class: "muted" }, T.units.failed(error.message)));
    }
  }

  function coloured(found) {
    const part = (name) => found.pieces.filter(([of]) => of === name).map(([, piece, weight]) => [piece, weight]);
    const reply = part("reply");
    return [
      h("div", { class: "text", "data-testid": "unit-text" }, paragraph(part("text")), reply.length ? h("div", { class: "reply" }, paragraph(reply)) : null),
      h("p", { class: "muted", "data-testid": "unit-note" }, [
        T.units.shown(found.unit, found.units - 1),
        " ",
        T.units.beside(signed(found.highest), percent(found.as_high), found.texts),
        at.unit === "" ? [" ", T.units.apart(signed(found.apart, 1), signed(found.apart_usual, 1))] : null,
      ]),
    ];
  }

  fill(root, h("div", { class: "unitchoice" }, h("label", {}, T.units.site, " ", site), h("label", {}, T.units.unit, " ", number)), said);
  show();
}
