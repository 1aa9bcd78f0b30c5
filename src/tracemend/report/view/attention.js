// Attention patterns: a row of tokens, one head's map, and all heads at a glance. Plain functions, no library.
// data: { layers, heads, texts: [{ tokens, attention, moved }] }; patterns are base64, a byte a share, 255 for all of it,
// in the order layer, head, query, key.
export function attentionView(root, data) {
  const WORDS = {
    text: "Text", layer: "Layer", head: "Head", mean: "mean of all", kind: "Show",
    kinds: { attention: "attention", moved: "what is moved" },
    ways: { to: "what the token looks at", from: "who looks at the token" }, way: "Colour",
    rest: "Point at a token to see where it looks.",
    over: "All heads: layers across, heads downwards. Press one to pick it.",
    map: "Rows look, columns are looked at.",
    to: (token) => `“${token}” looks at `, from: (token) => `“${token}” is looked at by `,
  };
  const make = (tag, set = {}, ...inside) => {
    const node = Object.assign(document.createElement(tag), set);
    node.append(...inside);
    return node;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const at = { text: 0, layer: Math.floor(data.layers / 2), head: -1, kind: "attention", way: "to", asked: null, kept: null };
  const last = () => data.texts[at.text].tokens.length - 1;
  at.kept = last();
  const decoded = new Map();
  const of = (kind) => {
    const key = `${at.text} ${kind}`;
    if (!decoded.has(key)) decoded.set(key, bytes(data.texts[at.text][kind]));
    return decoded.get(key);
  };
  const count = () => data.texts[at.text].tokens.length;

  // One head's pattern, or the mean over the layer's heads, as shares [query * count + key].
  function pattern() {
    const n = count() ** 2;
    const all = of(at.kind);
    const heads = at.head < 0 ? [...Array(data.heads).keys()] : [at.head];
    const found = new Float32Array(n);
    for (const head of heads) {
      const from = (at.layer * data.heads + head) * n;
      for (let i = 0; i < n; i++) found[i] += all[from + i] / (255 * heads.length);
    }
    return found;
  }

  const choice = (name, options, value, change) => {
    const select = make("select", { value });
    for (const [key, label] of options) select.append(make("option", { value: key, textContent: label, selected: String(key) === String(value) }));
    select.dataset.pick = name;
    select.addEventListener("change", () => change(select.value));
    return make("label", {}, make("span", { textContent: WORDS[name] }), select);
  };
  const numbers = (n) => [...Array(n).keys()].map((i) => [i, String(i)]);

  const controls = make("div", { className: "controls" });
  const tokens = make("div", { className: "tokens" });
  const said = make("p", { className: "said" });
  said.setAttribute("aria-live", "polite");
  const map = make("canvas", { className: "map" });
  map.setAttribute("role", "img");
  const side = make("div", { className: "side" }, map, make("p", { textContent: WORDS.map }));
  const overview = make("canvas");
  overview.setAttribute("role", "img");
  overview.setAttribute("aria-label", WORDS.over);
  const over = make("div", { className: "over" }, overview, make("p", { textContent: WORDS.over }));
  const box = make("div", { className: "attention" }, controls, make("div", {}, tokens, said), side, over);
  root.replaceChildren(box);

  const ink = () => {
    const probe = getComputedStyle(box).getPropertyValue("--influence").trim() || "#1f7a6d";
    const painter = document.createElement("canvas").getContext("2d");
    painter.fillStyle = probe;
    painter.fillRect(0, 0, 1, 1);
    return painter.getImageData(0, 0, 1, 1).data;
  };

  function drawControls() {
    const heads = [[-1, WORDS.mean], ...numbers(data.heads)];
    controls.replaceChildren(
      ...(data.texts.length > 1 ? [choice("text", numbers(data.texts.length).map(([i]) => [i, `${i + 1}: ${data.texts[i].tokens.join("").slice(0, 30)}`]), at.text, (v) => ((at.text = +v), (at.asked = null), (at.kept = last()), draw()))] : []),
      choice("layer", numbers(data.layers), at.layer, (v) => ((at.layer = +v), draw())),
      choice("head", heads, at.head, (v) => ((at.head = +v), draw())),
      choice("kind", Object.entries(WORDS.kinds), at.kind, (v) => ((at.kind = v), draw())),
      choice("way", Object.entries(WORDS.ways), at.way, (v) => ((at.way = v), paint())),
    );
  }

  function drawTokens() {
    tokens.replaceChildren(
      ...data.texts[at.text].tokens.map((token, i) => {
        const one = make("button", { type: "button", className: "token", textContent: token || " " });
        one.dataset.at = i;
        const ask = () => ((at.asked = i), paint());
        one.addEventListener("pointerenter", ask);
        one.addEventListener("focus", ask);
        one.addEventListener("click", () => ((at.kept = at.kept === i ? null : i), (at.asked = i), paint()));
        return one;
      }),
    );
  }
  tokens.addEventListener("pointerleave", () => ((at.asked = null), paint()));

  let shares = null; // the pattern that is shown
  function paint() {
    const n = count();
    const asked = at.asked ?? at.kept;
    const share = (i) => (asked === null ? 0 : at.way === "to" ? shares[asked * n + i] : shares[i * n + asked]);
    [...tokens.children].forEach((node, i) => {
      node.style.setProperty("--share", share(i).toFixed(3));
      node.classList.toggle("asked", i === asked);
      node.classList.toggle("kept", i === at.kept);
      node.title = asked === null ? "" : share(i).toFixed(2);
    });
    const words = data.texts[at.text].tokens;
    if (asked === null) said.textContent = WORDS.rest;
    else {
      const best = [...Array(n).keys()].filter((i) => share(i) >= 0.005).sort((a, b) => share(b) - share(a)).slice(0, 5);
      said.textContent = WORDS[at.way](words[asked].trim()) + best.map((i) => `“${words[i].trim()}” ${share(i).toFixed(2)}`).join(", ");
    }
  }

  function drawMap() {
    const n = count();
    const [r, g, b] = ink();
    map.width = map.height = n;
    const picture = new ImageData(n, n);
    for (let i = 0; i < n * n; i++) picture.data.set([r, g, b, 255 * Math.sqrt(shares[i])], 4 * i);
    map.getContext("2d").putImageData(picture, 0, 0);
    map.setAttribute("aria-label", `layer ${at.layer}, ${at.head < 0 ? WORDS.mean : `head ${at.head}`}. ${WORDS.map}`);
  }
  map.addEventListener("pointermove", (event) => {
    const row = Math.floor((event.offsetY / map.clientHeight) * count());
    if (row >= 0 && row < count()) ((at.asked = row), paint());
  });
  map.addEventListener("pointerleave", () => ((at.asked = null), paint()));

  // All heads, each in a cell of so many pixels a side: as large as a page has room for.
  const cell = Math.max(8, Math.min(40, Math.floor(980 / data.layers) - 1));
  function drawOverview() {
    const n = count();
    const [r, g, b] = ink();
    const all = of(at.kind);
    overview.width = data.layers * (cell + 1);
    overview.height = data.heads * (cell + 1);
    const painter = overview.getContext("2d");
    for (let layer = 0; layer < data.layers; layer++) {
      for (let head = 0; head < data.heads; head++) {
        const from = (layer * data.heads + head) * n * n;
        const picture = new ImageData(cell, cell);
        for (let y = 0; y < cell; y++) {
          for (let x = 0; x < cell; x++) {
            const value = all[from + Math.floor((y * n) / cell) * n + Math.floor((x * n) / cell)];
            picture.data.set([r, g, b, 255 * Math.sqrt(value / 255)], 4 * (y * cell + x));
          }
        }
        painter.putImageData(picture, layer * (cell + 1), head * (cell + 1));
      }
    }
    painter.strokeStyle = getComputedStyle(box).getPropertyValue("--bad") || "red";
    painter.lineWidth = 2;
    const high = at.head < 0 ? data.heads : 1;
    painter.strokeRect(at.layer * (cell + 1) + 1, Math.max(0, at.head) * (cell + 1) + 1, cell - 2, high * (cell + 1) - 3);
  }
  overview.addEventListener("click", (event) => {
    at.layer = Math.min(data.layers - 1, Math.floor((event.offsetX / overview.clientWidth) * data.layers));
    at.head = Math.min(data.heads - 1, Math.floor((event.offsetY / overview.clientHeight) * data.heads));
    draw();
  });

  function draw() {
    shares = pattern();
    drawControls();
    drawTokens();
    drawMap();
    drawOverview();
    paint();
  }
  draw();
}
