// A list of any length: rows are asked for and drawn only where they are looked at.
import { fill, h } from "./dom.js";

const PAGE = 100;
const SPARE = 6;

export class Grid {
  // fetch(offset, limit, keep) -> {total, rows, at: where the row `keep` stands}; cells(row) -> elements; pick(row, index) when the cursor moves.
  constructor({ label, height, columns, fetch, cells, pick, enter, empty, sorted, sort }) {
    Object.assign(this, { height, columns, fetch, cells, pick, enter, empty, sorted, sort });
    this.total = 0;
    this.cursor = -1;
    this.gap = 0;
    this.pages = new Map();
    this.chosen = new Map();
    this.asked = 0;
    this.inner = h("div", { class: "rows", role: "rowgroup" });
    this.head = h("div", { class: "head", role: "rowgroup" });
    this.note = h("div", { class: "empty", hidden: true });
    this.scroller = h("div", { class: "scroller", role: "presentation" }, this.inner);
    this.element = h(
      "div",
      { class: "grid", role: "grid", tabindex: "0", "aria-label": label, "aria-multiselectable": "true" },
      this.head,
      this.scroller,
    );
    this.whole = h("div", { class: "gridbox" }, this.element, this.note);
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.drawHead();
  }

  drawHead() {
    const now = this.sorted();
    const cells = this.columns.map(({ name, label, sort, title }) => {
      const on = sort && now.sort === sort;
      const state = on ? (now.desc ? "descending" : "ascending") : undefined;
      const act = () => this.sort(sort, on ? !now.desc : sort !== "rank" && sort !== "label");
      const inside = sort
        ? h("button", { type: "button", class: "plain", title, on: { click: act } }, label, on ? (now.desc ? " ↓" : " ↑") : "")
        : label;
      return h("div", { role: "columnheader", class: `c-${name}`, "aria-sort": state }, inside);
    });
    fill(this.head, h("div", { role: "row", class: "row" }, cells));
  }

  // Start again: another filter, another order, or other data.
  async load({ keep = null } = {}) {
    const ticket = ++this.asked;
    let found;
    let refusal = "";
    try {
      found = await this.fetch(0, PAGE, keep);
    } catch (error) {
      if (error.offline || error.dropped) throw error;
      // A query that means nothing, say: the server's words stand where the rows would.
      refusal = error.message;
      found = { total: 0, rows: [] };
    }
    if (ticket !== this.asked) return found;
    this.pages = new Map([[0, found.rows]]);
    this.total = found.total;
    this.cursor = -1;
    this.gap = 0; // before which row a step goes on where none is at hand
    this.drawHead();
    this.element.setAttribute("aria-rowcount", String(this.total));
    this.inner.style.height = `${this.total * this.height}px`;
    this.note.hidden = this.total > 0;
    this.element.hidden = this.total === 0;
    this.note.classList.toggle("bad", Boolean(refusal));
    fill(this.note, this.total ? "" : refusal || this.empty(found));
    if (found.at >= 0) this.move(found.at, { quiet: true });
    else this.scroller.scrollTop = 0;
    this.draw();
    return found;
  }

  row(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  get here() {
    return this.cursor >= 0 ? this.row(this.cursor) : undefined;
  }

  async page(number) {
    if (this.pages.has(number)) return;
    const ticket = this.asked;
    this.pages.set(number, null);
    try {
      const found = await this.fetch(number * PAGE, PAGE);
      if (ticket !== this.asked) return;
      this.pages.set(number, found.rows);
    } catch {
      this.pages.delete(number);
      return;
    }
    this.draw();
  }

  draw() {
    if (!this.total) {
      fill(this.inner);
      return;
    }
    const top = Math.max(0, Math.floor(this.scroller.scrollTop / this.height) - SPARE);
    const seen = Math.ceil((this.scroller.clientHeight || 600) / this.height) + 2 * SPARE;
    const end = Math.min(this.total, top + seen);
    const drawn = [];
    for (let i = top; i < end; i += 1) {
      const row = this.row(i);
      if (row === undefined) this.page(Math.floor(i / PAGE));
      drawn.push(this.drawRow(row, i));
    }
    fill(this.inner, drawn);
    if (this.cursor >= top && this.cursor < end) this.element.setAttribute("aria-activedescendant", `row-${this.cursor}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  drawRow(row, i) {
    const on = i === this.cursor;
    const chosen = Boolean(row && this.chosen.has(row.uid));
    const made = h(
      "div",
      {
        role: "row",
        id: `row-${i}`,
        class: `row${on ? " here" : ""}${chosen ? " chosen" : ""}${row ? "" : " waiting"}`,
        "aria-rowindex": String(i + 1),
        "aria-selected": on || chosen ? "true" : "false",
        "data-testid": "row",
        "data-uid": row?.uid,
        on: { click: (event) => this.clicked(event, i) },
      },
      row ? this.cells(row).map((cell, c) => h("div", { role: "gridcell", class: `c-${this.columns[c].name}` }, cell)) : h("div", { role: "gridcell", class: "bone" }),
    );
    made.style.transform = `translateY(${i * this.height}px)`;
    made.style.height = `${this.height}px`;
    return made;
  }

  clicked(event, i) {
    if (event.target.closest("button, input, a")) return;
    if (event.ctrlKey || event.metaKey) this.toggle(i);
    else this.move(i, { enter: true });
  }

  async move(index, { quiet = false, enter = false } = {}) {
    const to = Math.max(0, Math.min(this.total - 1, index));
    if (!this.total) return;
    this.cursor = to;
    const top = to * this.height;
    const room = this.scroller.clientHeight;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + this.height > this.scroller.scrollTop + room) this.scroller.scrollTop = top + this.height - room;
    await this.page(Math.floor(to / PAGE));
    this.draw();
    const row = this.here;
    if (row && !quiet) this.pick(row, to, { enter });
  }

  step(by) {
    return this.move(this.cursor < 0 ? this.gap + Math.min(0, by) : this.cursor + by);
  }

  toggle(index = this.cursor) {
    const row = this.row(index);
    if (!row) return;
    if (this.chosen.has(row.uid)) this.chosen.delete(row.uid);
    else this.chosen.set(row.uid, row);
    this.draw();
    this.whole.dispatchEvent(new CustomEvent("chosen"));
  }

  clear() {
    this.chosen.clear();
    this.draw();
    this.whole.dispatchEvent(new CustomEvent("chosen"));
  }

  // Put in what became of some rows, wherever they stand.
  replace(rows) {
    const known = new Map(rows.map((row) => [row.uid, row]));
    for (const page of this.pages.values()) {
      page?.forEach((row, i) => {
        if (known.has(row.uid)) page[i] = { ...row, ...known.get(row.uid), rank: row.rank };
      });
    }
    this.draw();
  }

  focus() {
    this.element.focus({ preventScroll: true });
  }
}
