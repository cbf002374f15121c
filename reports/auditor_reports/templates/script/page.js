/* The page around them: the download, and what printing unfolds. */
document.getElementById("tools").hidden = false;
document.getElementById("download").addEventListener("click", async () => {
  const url = URL.createObjectURL(new Blob([await carried("report")], { type: "application/json" }));
  const link = make("a", { href: url, download: "report.json" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
});

let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open], .folded)")];
  for (const fold of unfolded) (fold.unfold ?? (() => { fold.open = true; }))();
});
addEventListener("afterprint", () => { for (const fold of unfolded) fold.open = false; });

if (document.getElementById("findings-data")) {
  Promise.all([carried("report", 6), carried("findings-data")]).then((texts) => {
    startMap(startFindings(...texts.map((text) => JSON.parse(text))));
    document.documentElement.dataset.ready = "true";
  });
} else {
  document.documentElement.dataset.ready = "true";
}
