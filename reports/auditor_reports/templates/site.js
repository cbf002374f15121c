"use strict";
(() => {
  const form = document.querySelector(".tools");
  if (!form) return;
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const none = document.getElementById("none");
  const buttons = [...form.querySelectorAll("button[data-verdict]")];
  const rows = [...document.querySelectorAll("tbody tr")];
  let verdict = "";

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.dataset.words;
      const matches = (!verdict || row.dataset.verdict === verdict) && words.every((word) => text.includes(word));
      row.hidden = !matches;
      count += matches;
    }
    found.textContent = count === rows.length ? "" : `${count} of ${rows.length} shown`;
    none.hidden = count > 0;
  }

  function choose(value) {
    verdict = value;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === value));
    show();
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", show);
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.verdict));
  document.getElementById("clear").addEventListener("click", () => {
    search.value = "";
    choose("");
    search.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target !== search) {
      event.preventDefault();
      search.focus();
    }
  });
  show();  // a browser keeps what was typed when it comes back
})();
