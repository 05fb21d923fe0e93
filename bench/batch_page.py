"""The page of `vidrestore batch report` in a real browser: does it sort, does the wipe move, how does it look.

    vidrestore batch report OUT
    python bench/batch_page.py OUT --out shots/

Needs Chromium (apt-get install chromium). Sorts every column both ways, opens the first picture, moves its wipe and
looks for its plots; writes table.png and wipe.png for people to look at. Nothing is fetched from the network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from page import browser

TRIED = """<script>
addEventListener("load", async () => {
  const problems = [], expect = (what, met) => { if (!met) problems.push(what); };
  const cells = i => [...document.querySelectorAll("tbody tr")].map(r => r.cells[i]);
  const values = i => cells(i).map(c => c.dataset.value ?? c.textContent);
  const states = values(1).map(Number);
  expect("failures first", states.every((s, i) => !i || states[i - 1] <= s));
  [...document.querySelectorAll("thead th")].forEach((head, i) => {
    const button = head.querySelector("button");
    if (!button || "text" in head.dataset) return;
    for (const sign of [1, -1]) {
      button.click();
      const v = values(i).map(Number);
      expect(button.textContent + " sorts", v.every((x, k) => !k || sign * (x - v[k - 1]) >= 0));
    }
  });
  [...document.querySelectorAll("thead button")][0].click();
  const picture = document.querySelector("td button"), dialog = document.querySelector("dialog");
  if (MODE === "wipe") {
    picture.click();
    const range = dialog.querySelector("input"), before = dialog.querySelector(".left");
    range.value = 25; range.dispatchEvent(new Event("input"));
    await Promise.all([...dialog.querySelectorAll("img")].map(i => i.decode().catch(() => problems.push("a picture"))));
    expect("the wipe at a quarter", getComputedStyle(before).clipPath.includes("75%"));
    expect("the dialog", dialog.open && dialog.querySelector("h2").textContent === picture.dataset.name);
    expect("two pictures of one size", dialog.querySelector(".right").naturalWidth === before.naturalWidth);
  }
  if (MODE === "wipe") {
    const drawn = [...dialog.querySelectorAll("polyline")];
    expect("plots over time", dialog.querySelectorAll(".plot").length >= 2 && drawn.length >= 3);
    expect("curves in their plots", drawn.every(p => p.getBoundingClientRect().width > 0));
  }
  const shown = [...document.querySelectorAll("td img")];
  shown.forEach(i => { i.loading = "eager"; });
  await Promise.all(shown.map(i => i.decode().catch(() => problems.push("a thumbnail"))));
  expect("no sideways scrolling", document.documentElement.scrollWidth <= innerWidth);
  document.title = problems.length ? "MISSED: " + problems.join("; ") : "WORKS";
});
</script></body>"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", type=Path, help="the batch's output folder")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures")
    arguments = parser.parse_args()
    text, missed = (arguments.batch / "report.html").read_text(), 0
    tried = arguments.batch.resolve() / ".vidrestore" / "tried.html"  # its pictures are named from the folder above
    try:
        for mode in ("table", "wipe"):
            base = f'<head><base href="{arguments.batch.resolve().as_uri()}/">'
            tried.write_text(text.replace("<head>", base).replace("</body>", TRIED.replace("MODE", f'"{mode}"')))
            picture = f"--screenshot={arguments.out.resolve() / mode}.png"
            browser("--window-size=1280,900", "--virtual-time-budget=30000", picture, tried.as_uri())
            page = browser("--window-size=1280,900", "--virtual-time-budget=30000", "--dump-dom", tried.as_uri())
            said = page.partition("<title>")[2].partition("</title>")[0]
            print(f"{mode}: {said}")
            missed += said != "WORKS"
    finally:
        tried.unlink(missing_ok=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
