"use strict";
(() => {
  const data = document.getElementById("report");

  const json = async () => {
    if (!data.dataset.encoding) return new Blob([data.textContent], { type: "application/json" });
    const packed = Uint8Array.from(atob(data.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Blob([await new Response(stream).arrayBuffer()], { type: "application/json" });
  };

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const download = make("button", { type: "button", textContent: "Download JSON" });
  download.addEventListener("click", async () => {
    const url = URL.createObjectURL(await json());
    const link = make("a", { href: url, download: "report.json" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  });
  document.getElementById("tools").append(download);

  // The filter: by words, or by one cell of the map. Only root findings are hidden or shown.
  const section = document.getElementById("findings");
  const roots = [...section.querySelectorAll(".group > .finding")];
  const count = (number) => number.toLocaleString("en-US");
  let cell = null;
  const words = make("input", { type: "search", placeholder: "rule, tensor, file, …", autocomplete: "off" });
  const clear = make("button", { type: "button", textContent: "Show all", hidden: true });
  const status = make("span", { role: "status", className: "quiet" });

  const touches = (finding, layer, module) =>
    (finding.dataset.cells || "").split(";").some((entry) => {
      const at = entry.lastIndexOf(":");
      if (entry.slice(0, at) !== module && module !== "other") return false;
      return entry.slice(at + 1).split(",").some((range) => {
        if (layer === "" || range === "top") return layer === "" && range === "top";
        const [begin, end] = range.split("-");
        return Number(begin) <= Number(layer) && Number(layer) <= Number(end);
      });
    });

  const apply = () => {
    const text = words.value.trim().toLowerCase();
    let shown = 0;
    for (const finding of roots) {
      const fits = (!cell || touches(finding, cell.layer, cell.module)) &&
        (!text || finding.textContent.toLowerCase().includes(text));
      finding.hidden = !fits;
      shown += fits;
    }
    const filtered = Boolean(cell || text);
    for (const group of section.querySelectorAll(".group")) {
      const any = group.querySelector(":scope > .finding:not([hidden])") !== null;
      group.hidden = filtered && !any;
      if (filtered && any && group.tagName === "DETAILS") group.open = true;
    }
    clear.hidden = !filtered;
    const where = cell ? `${cell.layer === "" ? "" : `layer ${cell.layer}, `}${cell.label}: ` : "";
    status.textContent = filtered ? `${where}${count(shown)} of ${count(roots.length)} findings` : "";
  };

  if (roots.length > 1) {
    document.getElementById("filter").append(make("label", {}, "Filter ", words), " ", clear, " ", status);
    words.addEventListener("input", apply);
    clear.addEventListener("click", () => { cell = null; words.value = ""; apply(); words.focus(); });
    document.getElementById("map").addEventListener("click", (event) => {
      const link = event.target.closest("a[data-module]");
      if (!link) return;
      const { layer, module } = link.dataset;
      // A cell that no finding on the page names leads to all of them.
      cell = roots.some((f) => touches(f, layer, module)) ? { layer, module, label: module.replaceAll("_", " ") } : null;
      words.value = "";
      apply();
      event.preventDefault();
      section.scrollIntoView();
      (cell ? clear : words).focus({ preventScroll: true });
    });
  }

  // A link to a finding opens whatever folds it away; printing unfolds the findings.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) { cell = null; words.value = ""; apply(); }
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const fold of unfolded) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of unfolded) fold.open = false; });
})();
