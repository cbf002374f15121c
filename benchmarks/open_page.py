"""Opens pages in Chromium and prints as JSON how long each took, in seconds, until its script was done.

    python benchmarks/open_page.py ROUNDS PAGE...

A process of its own, since the driver is large. A first round warms up and is dropped.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Since the navigation began, by the browser's own clock; two frames later the page is drawn.
READY = """() => new Promise((resolve) => {
  const drawn = () => requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() / 1000)));
  if (document.documentElement.dataset.ready) return drawn();
  new MutationObserver(drawn).observe(document.documentElement, { attributes: true });
})"""


def main() -> None:
    """The command line."""
    rounds, pages = int(sys.argv[1]), sys.argv[2:]
    path = os.environ.get("AUDITOR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    times: dict[str, list[float]] = {page: [] for page in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        for turn in range(rounds + 1):
            for page in pages:
                tab = browser.new_page(viewport={"width": 1280, "height": 900})
                tab.goto(Path(page).as_uri(), wait_until="commit")
                seconds = tab.evaluate(READY)
                if turn:
                    times[page].append(seconds)
                tab.close()
        browser.close()
    print(json.dumps(times))


if __name__ == "__main__":
    main()
