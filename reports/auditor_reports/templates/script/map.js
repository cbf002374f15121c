/* The map: a grid to walk through with arrow keys; what is picked filters the list and says what is in it. */
const startMap = (findings) => {
  const section = document.getElementById("map");
  const panel = document.getElementById("picked");
  if (!panel) return;
  const experts = Number(section.dataset.experts);
  const RANK = ["passed", "info", "warning", "error"];
  document.getElementById("map-help").hidden = false;

  const cellOf = (place) => {
    const { layer, module } = place.dataset;
    return { layer: layer === undefined ? null : layer === "" ? -1 : Number(layer), module: module ?? null, expert: null };
  };
  const nameOf = (place) => {
    if (place.title) return place.title.split(": ")[0];
    return place.scope === "row" ? `layer ${place.textContent}` : place.textContent.trim();
  };

  const tables = [...section.querySelectorAll("table.map")];
  for (const table of tables) {
    table.setAttribute("role", "grid");
    const places = [...table.querySelectorAll("[data-layer], [data-module]")];
    for (const place of places) {
      if (place.dataset.layer === "" && place.scope === "row") continue;
      place.tabIndex = -1;
      if (place.title) place.setAttribute("aria-label", place.title);
      place.querySelector("a")?.replaceWith(...place.querySelector("a").childNodes);
    }
    (table.querySelector("td.error, td.unread, td.warning") ?? table.querySelector("td[tabindex]") ?? places[0]).tabIndex = 0;
  }

  const walk = (place, key) => {
    const row = place.parentElement;
    const table = place.closest("table");
    const rows = [...table.rows];
    const column = [...row.cells].indexOf(place);
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
    if (key === "Home" || key === "End") {
      const within = [...row.cells].filter((cell) => cell.hasAttribute("tabindex"));
      return within.at(key === "Home" ? 0 : -1);
    }
    let [y, x] = [rows.indexOf(row), column];
    for (;;) {
      y += step[0];
      x += step[1];
      const next = rows[y]?.cells[x];
      if (!next) return null;
      if (next.hasAttribute("tabindex")) return next;
    }
  };

  section.addEventListener("keydown", (event) => {
    const place = event.target.closest(".map [tabindex]");
    if (!place) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(place);
    } else if (/^(Arrow|Home|End)/.test(event.key)) {
      event.preventDefault();
      const next = walk(place, event.key);
      if (!next) return;
      for (const each of place.closest("table").querySelectorAll("[tabindex='0']")) each.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  });
  section.addEventListener("click", (event) => {
    const place = event.target.closest(".map [tabindex]");
    if (place) choose(place);
  });

  let chosen = null;
  const choose = (place) => {
    if (place === chosen) return findings.pick(null);
    const cell = cellOf(place);
    findings.pick(cell, nameOf(place));
    chosen = place;
    place.classList.add("chosen");
    place.setAttribute("aria-selected", "true");
    describe(place, cell);
  };

  const go = (text, cell, label) => {
    const button = make("button", { type: "button", textContent: text });
    button.addEventListener("click", () => {
      findings.pick(cell, label);
      const heading = document.getElementById("findings");
      heading.scrollIntoView();
      (document.querySelector("#list .finding") ?? document.getElementById("search")).focus({ preventScroll: true });
    });
    return button;
  };

  const describe = (place, cell) => {
    const within = findings.roots.filter((root) => touches(root, cell));
    const label = nameOf(place);
    const parts = [make("h3", { textContent: label })];
    if (place.title) parts.push(make("p", { textContent: place.title.slice(label.length + 2) }));
    if (within.length) {
      parts.push(make("ul", { className: "headlines" }, ...within.slice(0, 4).map((finding) =>
        make("li", { className: finding.severity },
          make("span", { className: "mark", textContent: findings.marks[finding.severity], ariaHidden: "true" }),
          make("span", { className: "where" }, `${finding.rule} `, make("code", { textContent: finding.subject ?? "" })),
          make("a", { href: `#${finding.anchor}` }, make("bdi", { textContent: finding.message })),
        ))));
      parts.push(go(within.length === 1 ? "Go to this finding" : `Go to these ${grouped(within.length)} findings`, cell, label));
    } else {
      parts.push(make("p", { className: "quiet", textContent: "No finding names a tensor here." }));
    }
    if (experts && cell.layer !== -1 && (cell.module === "experts" || (cell.module === null && hasExperts(place)))) {
      parts.push(...unfolded(within, { ...cell, module: "experts" }, label));
    }
    panel.replaceChildren(...parts);
    panel.hidden = false;
  };

  const hasExperts = (place) => place.parentElement.querySelector("[data-module='experts']") !== null;

  /* The routed experts of a layer, or of all, each by the worst that touches it. */
  const unfolded = (within, cell, label) => {
    const worst = new Array(experts).fill(0);
    const counts = new Array(experts).fill(0);
    for (const finding of within) {
      const rank = RANK.indexOf(finding.severity);
      const hit = new Set();
      for (const [first, last, one, other] of finding.places.get("experts") ?? []) {
        if (cell.layer !== null && (cell.layer < first || cell.layer > last)) continue;
        for (let i = Math.max(0, one); i <= (one < 0 ? experts - 1 : Math.min(other, experts - 1)); i += 1) hit.add(i);
      }
      for (const expert of hit) {
        worst[expert] = Math.max(worst[expert], rank);
        counts[expert] += 1;
      }
    }
    const concerned = counts.filter(Boolean).length;
    const title = make("h4", { textContent: `${plural(experts, "expert")}, ${concerned ? `${grouped(concerned)} concerned` : "none concerned"}` });
    const grid = make("ol", { className: "experts", start: 0 });
    for (let expert = 0; expert < experts; expert += 1) {
      const item = make("li", { className: RANK[worst[expert]] });
      if (counts[expert]) {
        const button = go(String(expert), { ...cell, expert }, `${label}, expert ${expert}`);
        button.ariaLabel = `expert ${expert}: ${RANK[worst[expert]]}, ${plural(counts[expert], "finding")}`;
        item.append(button);
      } else {
        item.textContent = expert;
      }
      grid.append(item);
    }
    return [title, grid];
  };

  findings.onPick((cell) => {
    if (cell !== null && chosen && cell.expert !== null) return;
    if (cell !== null && chosen && cell.layer === cellOf(chosen).layer && cell.module === cellOf(chosen).module) return;
    chosen?.classList.remove("chosen");
    chosen?.removeAttribute("aria-selected");
    chosen = null;
    panel.hidden = true;
  });
};
