// Elements from values. Text only ever becomes a text node, so that nothing in it acts.

export function h(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name === "class") made.className = value;
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  add(made, children);
  return made;
}

function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
  return parent;
}

// Draw a place anew: the focus stays where it was; another example begins at its top.
export function redraw(place, uid, ...children) {
  const focus = place.contains(document.activeElement) ? document.activeElement : null;
  const name = focus?.dataset.testid;
  const card = focus?.closest("[data-uid]")?.dataset.uid;
  const same = place.dataset.uid === uid;
  place.dataset.uid = uid;
  fill(place, ...children);
  if (!same) place.scrollTop = 0;
  if (name && same) [...place.querySelectorAll(`[data-testid="${name}"]`)].find((one) => one.closest("[data-uid]")?.dataset.uid === card)?.focus({ preventScroll: true });
  return place;
}

export function svg(tag, props, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props || {})) made.setAttribute(name, value);
  add(made, children);
  return made;
}

// Marks that turn the direction of what follows, and other characters without a shape, are shown by their number; not
// the two joiners where scripts and emoji need them.
const JOINED = "[\\p{Script=Arabic}\\p{Script=Syriac}\\p{Script=Devanagari}\\p{Script=Bengali}\\p{Script=Gurmukhi}\\p{Script=Gujarati}\\p{Script=Oriya}\\p{Script=Tamil}\\p{Script=Telugu}\\p{Script=Kannada}\\p{Script=Malayalam}\\p{Script=Sinhala}\\p{Script=Khmer}\\p{Script=Myanmar}\\p{Extended_Pictographic}\\p{Emoji_Modifier}\\ufe0f]";
const UNSEEN = new RegExp(
  `(?<!${JOINED})[\\u200c\\u200d]|[\\u200c\\u200d](?!${JOINED})|` +
    "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u115f\\u1160\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\u{e0000}-\\u{e007f}]",
  "gu",
);

// The pieces of a text, to stand in a paragraph with others of the same direction.
export function spelled(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(UNSEEN)) {
    parts.push(text.slice(at, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    parts.push(h("span", { class: "unseen", title: `U+${code}` }, `U+${code}`));
    at = found.index + found[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}

// A text of its own, whose direction turns nothing around it.
export function visible(text) {
  return h("bdi", {}, spelled(text));
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`;
}

export function signed(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const shown = Math.abs(value).toFixed(digits);
  return Number(shown) === 0 ? shown : `${value < 0 ? "−" : "+"}${shown}`;
}

export function seconds(value) {
  if (value < 90) return `${Math.max(1, Math.round(value))} s`;
  return `${Math.round(value / 60)} min`;
}

export function when(iso) {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
