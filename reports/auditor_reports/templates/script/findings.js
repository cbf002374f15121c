/* The list: a page of cards at a time, filtered, searched, ordered; cards are clones of the page's own pattern. */
const startFindings = (report, columns) => {
  const PAGE = 100;
  const SOME = 500;
  const find = (id) => document.getElementById(id);
  const list = find("list");
  const pattern = find("card").content.firstElementChild;
  const roots = findingsOf(report, columns);
  const anchors = new Map();
  for (const root of roots) {
    anchors.set(root.anchor, root);
    for (const below of root.consequences) anchors.set(below.anchor, below);
  }
  const state = { cell: null, label: "", begin: 0 };
  let fitting = roots;

  const grow = (holder, items, build) => {
    const next = items.splice(0, SOME);
    holder.append(...next.map(build));
    if (!items.length) return;
    const more = make("button", { type: "button", className: "more", textContent: `Show more, ${grouped(items.length)} left` });
    const shell = holder.tagName === "UL" ? make("li", {}, more) : more;
    more.addEventListener("click", () => { shell.remove(); grow(holder, items, build); });
    holder.append(shell);
  };

  /* What a fold holds is made when it is opened first. */
  const fill = (fold, holder, items, build) => {
    let filled = false;
    const unfold = () => { if (!filled) { filled = true; grow(holder, [...items], build); } };
    fold.addEventListener("toggle", () => { if (fold.open) unfold(); });
    fold.unfold = () => { fold.open = true; unfold(); };
  };

  const card = (finding) => {
    const article = pattern.cloneNode(true);
    article.classList.add(finding.severity, finding.status);
    article.id = finding.anchor;
    const title = article.querySelector(".message");
    title.id = `${finding.anchor}-title`;
    article.setAttribute("aria-labelledby", title.id);
    article.finding = finding;
    for (const slot of article.querySelectorAll("[data-slot]")) {
      const value = slot.dataset.slot === "mark" ? columns.marks[finding.severity] : finding[slot.dataset.slot];
      if (value === null || (slot.dataset.slot === "status" && value === "new")) {
        (slot.closest("details, dl > div, .subject") ?? slot).remove();
      } else {
        slot.textContent = value;
      }
    }
    article.querySelector(".id").href = `#${finding.anchor}`;
    const affected = article.querySelector(":scope > .affected");
    if (affected) {
      fill(affected, affected.querySelector("ul"), finding.patterns,
        (name) => make("li", {}, make("code", { textContent: name })));
    }
    const below = article.querySelector(":scope > .consequences");
    if (below) fill(below, below.querySelector(".below"), finding.consequences, card);
    return article;
  };

  const asText = (finding) => {
    const lines = [`${finding.severity.toUpperCase()} ${finding.rule} ${finding.slug}${finding.times ? `, ${finding.times}` : ""}`];
    lines.push(finding.message);
    for (const field of ["tensor", "file", "field", "bytes", "expected", "actual"]) {
      if (finding[field] !== null) lines.push(`${field}: ${finding[field]}`);
    }
    if (finding.waiver !== null) {
      lines.push(`waived: ${finding.waiver}${finding.owner ? `; owner ${finding.owner}` : ""}; until ${finding.expires}`);
    }
    if (finding.affected) lines.push("affected:", ...finding.patterns.map((name) => `  ${name}`));
    lines.push(`#${finding.anchor}`);
    return `${lines.join("\n")}\n`;
  };

  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", { value: text, className: "hidden" });
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };

  list.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const done = await copied(asText(button.closest(".finding").finding));
    button.textContent = done ? "Copied" : "Not copied";
    button.focus();
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  const show = () => {
    const shown = fitting.slice(state.begin, state.begin + PAGE);
    const nodes = [];
    const totals = {};
    if (find("order").value === "severity") for (const each of fitting) totals[each.severity] = (totals[each.severity] ?? 0) + 1;
    let heading = null;
    for (const finding of shown) {
      if (finding.severity !== heading && totals[finding.severity]) {
        heading = finding.severity;
        nodes.push(make("h3", {}, `${columns.headings[heading]} `, make("small", { textContent: plural(totals[heading], "finding") })));
      } else if (heading === null && !nodes.length) {
        nodes.push(make("h3", { className: "hidden", textContent: "In the order chosen" }));
      }
      nodes.push(card(finding));
    }
    if (!shown.length) nodes.push(make("p", { className: "quiet", textContent: "No finding fits." }));
    list.replaceChildren(...nodes);
    for (const finding of shown) {
      if (finding.within) document.getElementById(finding.anchor).querySelector(".consequences").unfold();
    }
    const end = state.begin + shown.length;
    find("pager").hidden = fitting.length <= PAGE;
    find("pages").textContent = `${grouped(state.begin + 1)} to ${grouped(end)} of ${grouped(fitting.length)}`;
    find("previous").disabled = state.begin === 0;
    find("next").disabled = end >= fitting.length;
  };

  const ORDERS = {
    severity: null,
    weight: (a, b) => b.weight - a.weight,
    rule: (a, b) => (a.rule < b.rule ? -1 : Number(a.rule > b.rule)),
    place: (() => {
      const natural = new Intl.Collator("en", { numeric: true });
      const place = (each) => each.tensor ?? each.patterns[0] ?? each.file ?? each.field ?? "";
      return (a, b) => natural.compare(place(a), place(b));
    })(),
  };

  const apply = () => {
    const typed = find("search").value.trim();
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    const name = /^\S+$/.test(typed) && typed.includes(".") ? typed : null;
    const severities = new Set([...document.querySelectorAll("#filter [name=severity]:checked")].map((box) => box.value));
    const every = severities.size === document.querySelectorAll("#filter [name=severity]").length;
    const rule = find("rule").value;
    const status = find("status").value;
    const chosen = (each) => (!rule || each.rule === rule) && (!status || each.status === status) &&
      (!words.length || mentions(each, words, name));
    const narrowed = Boolean(words.length) || Boolean(rule) || Boolean(status);
    fitting = roots.filter((root) => {
      root.within = false;
      if (!severities.has(root.severity) || (state.cell && !touches(root, state.cell))) return false;
      if (!narrowed || chosen(root)) return true;
      root.within = root.consequences.some(chosen);
      return root.within;
    });
    const order = ORDERS[find("order").value];
    if (order) fitting.sort(order);
    state.begin = 0;
    const filtered = narrowed || !every || Boolean(state.cell);
    find("clear").hidden = !filtered;
    find("cell").hidden = !state.cell;
    find("cell").textContent = `${state.label} ×`;
    find("cell").setAttribute("aria-label", `${state.label}: stop filtering by it`);
    find("shown").textContent = filtered
      ? `${grouped(fitting.length)} of ${plural(roots.length, "finding")}` : plural(roots.length, "finding");
    show();
  };

  let waiting;
  const filter = find("filter");
  filter.hidden = false;
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, event.target.id === "search" && roots.length > 2000 ? 200 : 0);
  });
  const clear = () => { filter.reset(); pick(null); };
  find("clear").addEventListener("click", () => { clear(); find("search").focus(); });
  find("cell").addEventListener("click", () => { pick(null); find("search").focus(); });
  const turn = (step) => {
    state.begin = Math.max(0, state.begin + step * PAGE);
    show();
    find("findings").scrollIntoView();
    list.querySelector(".finding").focus({ preventScroll: true });
  };
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));

  /* The map picks a cell; null unpicks. */
  const listeners = [];
  const pick = (cell, label = "") => {
    state.cell = cell;
    state.label = label;
    for (const listener of listeners) listener(cell);
    apply();
  };

  /* A link to a finding clears a filter that hides it, turns to its page, opens its folds, and goes there. */
  const reveal = () => {
    let wanted;
    try { wanted = anchors.get(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    if (!wanted) return;
    const root = wanted.cause ?? wanted;
    if (!fitting.includes(root)) clear();
    const position = fitting.indexOf(root);
    if (position < state.begin || position >= state.begin + PAGE) {
      state.begin = Math.floor(position / PAGE) * PAGE;
      show();
    }
    if (wanted.cause) {
      const fold = find(root.anchor).querySelector(".consequences");
      fold.unfold();
      while (!find(wanted.anchor)) fold.querySelector(".below > .more").click();
    }
    for (const marked of list.querySelectorAll(".here")) marked.classList.remove("here");
    const target = find(wanted.anchor);
    target.classList.add("here");
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#finding-']");
    if (link && link.hash === location.hash) { event.preventDefault(); reveal(); }
  });

  find("beyond")?.remove();
  apply();
  reveal();
  return { roots, pick, marks: columns.marks, onPick: (listener) => listeners.push(listener) };
};
