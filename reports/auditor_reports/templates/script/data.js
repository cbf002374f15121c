"use strict";

const bytesOf = (base64) => {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
};

/* What the page carries: JSON text, as it is, or as gzip with its digests apart, U+0001 in the place of each.
   `length` is how many bytes of each digest are wanted: the list needs only what a link says. */
const carried = async (id, length = 32) => {
  const block = document.getElementById(id);
  if (!block.dataset.encoding) return block.textContent;
  const [packed, digests] = block.textContent.split(".").map(bytesOf);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const parts = (await new Response(stream).text()).split("\u0001");
  const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
  let whole = parts[0];
  for (let i = 1; i < parts.length; i += 1) {
    for (let at = 32 * i - 32, end = at + length; at < end; at += 1) whole += hex[digests[at]];
    whole += parts[i];
  }
  return whole;
};

const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const english = new Intl.NumberFormat("en-US");
const grouped = (number) => english.format(number);
const plural = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

/* One finding: the report's own, with its place in the page's order and the words that are not the report's. */
class Finding {
  constructor(raw, otherwise, cause) {
    this.raw = raw;
    this.otherwise = otherwise || null;
    this.cause = cause;
    this.consequences = [];
    this.weight = raw.count;
    this.within = false;
    this.known = null;
    this.anchor = this.otherwise?.anchor ?? `finding-${raw.fingerprint.slice(0, 12)}`;
  }

  get severity() { return this.raw.severity; }
  get status() { return this.raw.status; }
  get rule() { return this.otherwise?.rule ?? this.raw.rule; }
  get slug() { return this.otherwise?.slug ?? this.raw.slug; }
  get message() { return this.otherwise?.message ?? this.raw.message; }
  get tensor() { return this.otherwise?.tensor ?? this.raw.location.tensor; }
  get file() { return this.otherwise?.file ?? this.raw.location.file; }
  get field() { return this.otherwise?.field ?? this.raw.location.field; }
  get subject() { return this.tensor ?? this.file ?? this.field; }
  get "beside-file"() { return this.tensor === null ? null : this.file; }
  get "beside-field"() { return this.tensor === null && this.file === null ? null : this.field; }
  get bytes() {
    const span = this.raw.location.bytes;
    return span && (this.otherwise?.bytes ?? `${grouped(span[0])} to ${grouped(span[1])} (${grouped(span[1] - span[0])} B)`);
  }
  get compared() { return this.raw.expected !== null || this.raw.actual !== null; }
  get expected() { return this.compared ? this.otherwise?.expected ?? this.raw.expected ?? "none" : null; }
  get actual() { return this.compared ? this.otherwise?.actual ?? this.raw.actual ?? "none" : null; }
  get times() { return this.raw.count > 1 ? plural(this.raw.count, "time") : null; }
  get patterns() { return this.otherwise?.patterns ?? this.raw.affected; }
  get affected() {
    const more = this.raw.more ? `, and ${grouped(this.raw.more)} more that no report lists` : "";
    return this.patterns.length ? plural(this.patterns.length, "pattern") + more : null;
  }
  get explains() { return this.consequences.length ? plural(this.consequences.length, "finding") : null; }
  get waiver() { return this.otherwise?.waiver ?? null; }
  get owner() { return this.otherwise?.owner ?? null; }
  get expires() { return this.otherwise?.expires ?? null; }

  /* Its words in lower case, for the search. */
  get words() {
    return (this.searched ??= [
      this.rule, this.slug, this.message, this.file, this.tensor, this.field, this.expected, this.actual, this.waiver,
      this.owner, this.anchor, ...this.patterns,
    ].filter((part) => part !== null).join("\n").toLowerCase());
  }

  /* Where it is on the map, and what it explains: module → ranges of layers and experts; -1 stands outside the layers,
     or for all. */
  get places() {
    if (this.known) return this.known;
    this.known = new Map();
    const ends = (range) => { const [begin, end = begin] = range.split("-").map(Number); return [begin, end]; };
    for (const cells of new Set([this, ...this.consequences].flatMap(({ raw }) => raw.cells.split(";").filter(Boolean)))) {
      const at = cells.lastIndexOf(":");
      const module = cells.slice(0, at);
      if (!this.known.has(module)) this.known.set(module, []);
      for (const range of cells.slice(at + 1).split(",")) {
        const [layers, experts] = range.split("/");
        this.known.get(module).push(range === "top" ? [-1, -1, -1, -1] : [...ends(layers), ...(experts ? ends(experts) : [-1, -1])]);
      }
    }
    return this.known;
  }
}

/* The report's findings in the page's order; a row's position is a step from the one behind the row before. */
const findingsOf = (report, { rows }) => {
  let follows = 0;
  const finding = ([step, otherwise, below], cause) => {
    const index = follows + step;
    follows = index + 1;
    const each = new Finding(report.findings[index], otherwise, cause);
    if (below) each.consequences = below.map((row) => finding(row, each));
    for (const consequence of each.consequences) each.weight += consequence.weight;
    return each;
  };
  return rows.map((row) => finding(row, null));
};

/* Whether a {a-b} pattern stands for a whole tensor name; a name's own opening brace is written [{]. */
const covers = (pattern, name) => {
  const parts = pattern.split(/(?<!\[)\{([0-9]+)-([0-9]+)\}/).map((part) => part?.replaceAll("[{]", "{"));
  if (parts.length === 1) return parts[0] === name;
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
  words.every((word) => finding.words.includes(word)) ||
  (name !== null && finding.patterns.some((pattern) => covers(pattern, name)));

/* A cell is a layer (null: any, -1: outside), a module (null: any) and perhaps an expert. */
const touches = (finding, cell) => {
  for (const [module, ranges] of finding.places) {
    if (cell.module !== null && cell.module !== module) continue;
    for (const [first, last, one, other] of ranges) {
      if (cell.layer !== null && (cell.layer < first || cell.layer > last)) continue;
      if (cell.expert !== null && one >= 0 && (cell.expert < one || cell.expert > other)) continue;
      return true;
    }
  }
  return false;
};
