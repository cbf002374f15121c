"use strict";

/* What the page carries: JSON text, as it is or as base64 of gzip. */
const carried = async (id) => {
  const block = document.getElementById(id);
  if (!block.dataset.encoding) return block.textContent;
  const text = atob(block.textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const english = new Intl.NumberFormat("en-US");
const grouped = (number) => english.format(number);
const plural = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

/* The report's findings in the page's order, each with its cells and with the words that are not the report's own. */
const findingsOf = (report, columns) => {
  const finding = ([index, cells, otherwise, below = []], cause) => {
    const raw = report.findings[index];
    const { location, count, affected } = raw;
    const compared = raw.expected !== null || raw.actual !== null;
    const each = {
      anchor: `finding-${raw.fingerprint.slice(0, 12)}`, rule: raw.rule, slug: raw.slug, severity: raw.severity,
      status: raw.status, mark: columns.marks[raw.severity], message: raw.message, file: location.file,
      tensor: location.tensor, field: location.field, bytes: null, expected: compared ? raw.expected : null,
      actual: compared ? raw.actual : null, waiver: null, owner: null, expires: null, patterns: affected,
      times: count > 1 ? plural(count, "time") : null,
      affected: affected.length ? plural(affected.length, "pattern") : null,
      explains: below.length ? plural(below.length, "finding") : null,
      weight: count, cells, places: null, words: null, cause, consequences: null, within: false,
    };
    if (otherwise) Object.assign(each, otherwise);
    each.subject = each.tensor ?? each.file ?? each.field;
    each["beside-file"] = each.tensor === null ? null : each.file;
    each["beside-field"] = each.tensor === null && each.file === null ? null : each.field;
    each.consequences = below.map((row) => finding(row, each));
    for (const consequence of each.consequences) each.weight += consequence.weight;
    return each;
  };
  return columns.rows.map((row) => finding(row, null));
};

/* The words of a finding, in lower case, for the search. */
const wordsOf = (finding) => (finding.words ??= [
  finding.rule, finding.slug, finding.message, finding.file, finding.tensor, finding.field, finding.expected,
  finding.actual, finding.waiver, finding.owner, finding.anchor, ...finding.patterns,
].filter((part) => part !== null).join("\n").toLowerCase());

/* Whether a {a-b} pattern stands for a whole tensor name. */
const covers = (pattern, name) => {
  const parts = pattern.split(/\{([0-9]+)-([0-9]+)\}/);
  if (parts.length === 1) return pattern === name;
  let at = 0;
  for (let i = 0; i < parts.length; i += 3) {
    if (!name.startsWith(parts[i], at)) return false;
    at += parts[i].length;
    if (i + 2 >= parts.length) break;
    const digits = /^[0-9]+/.exec(name.slice(at, at + 12));
    if (!digits || Number(digits[0]) < Number(parts[i + 1]) || Number(digits[0]) > Number(parts[i + 2])) return false;
    at += digits[0].length;
  }
  return at === name.length;
};

const mentions = (finding, words, name) =>
  words.every((word) => wordsOf(finding).includes(word)) ||
  (name !== null && finding.patterns.some((pattern) => covers(pattern, name)));

/* Where a finding is on the map: module → ranges of layers and experts; -1 stands outside the layers, or for all. */
const placesOf = (finding) => (finding.places ??= new Map(
  finding.cells.split(";").filter(Boolean).map((entry) => {
    const at = entry.lastIndexOf(":");
    const ranges = entry.slice(at + 1).split(",").map((range) => {
      if (range === "top") return [-1, -1, -1, -1];
      const [layers, experts] = range.split("/");
      return [...layers.split("-").map(Number), ...(experts ? experts.split("-").map(Number) : [-1, -1])];
    });
    return [entry.slice(0, at), ranges];
  })));

/* A cell is a layer (null: any, -1: outside), a module (null: any) and perhaps an expert. */
const touches = (finding, cell) => {
  for (const [module, ranges] of placesOf(finding)) {
    if (cell.module !== null && cell.module !== module && cell.module !== "other") continue;
    for (const [first, last, one, other] of ranges) {
      if (cell.layer !== null && (cell.layer < first || cell.layer > last)) continue;
      if (cell.expert !== null && one >= 0 && (cell.expert < one || cell.expert > other)) continue;
      return true;
    }
  }
  return false;
};
