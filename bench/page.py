"""The page of `vidrestore evaluate --html` in a real browser: is it drawn, do its controls work, how does it look.

    vidrestore evaluate ... --html report.html
    python bench/page.py report.html --out shots/

Needs Chromium (apt-get install chromium). Presses every control of the first face and checks what the page did; writes
wide.png (1280 px) and narrow.png (400 px) for people to look at. Nothing is fetched from the network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# presses the last pair and the first sample, moves the wipe, and says what came of it
TRIED = """<script>
const track = document.querySelector(".track"), wipe = track.querySelector(".wipe");
const last = [...track.querySelectorAll(".pairs button")].pop(), range = wipe.querySelector("input"), problems = [];
const expect = (what, met) => { if (!met) problems.push(what); };
last.click(); track.querySelector(".sample").click(); range.value = 25; range.dispatchEvent(new Event("input"));
const left = wipe.querySelector(".left"), right = wipe.querySelector(".right");
const named = [...wipe.querySelectorAll("span")].map(s => s.textContent);
expect("the names of the pair", named.join() === [last.dataset.left, last.dataset.right].join());
expect("the pair's pictures", left.alt.startsWith(last.dataset.left) && right.alt.startsWith(last.dataset.right));
expect("the first sample's pictures", track.querySelector(".sample img." + last.dataset.left).src === left.src);
expect("the wipe at a quarter", getComputedStyle(left).clipPath.includes("75%"));
expect("pictures that load", [...document.images].every(i => i.complete && i.naturalWidth > 0));
expect("curves", [...document.querySelectorAll("polyline")].every(p => p.getBoundingClientRect().width > 0));
expect("no sideways scrolling", document.documentElement.scrollWidth <= innerWidth);
document.title = problems.length ? "MISSED: " + problems.join("; ") : "WORKS";
</script></body>"""


def browser(*arguments: str) -> str:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures")
    arguments = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tried, framed = Path(folder) / "tried.html", Path(folder) / "framed.html"
        tried.write_text(arguments.page.read_text().replace("</body>", TRIED))
        # a window is 500 px wide at least: a frame is narrower
        frame = '<body style="margin:0"><iframe src="tried.html" style="width:400px;height:5600px;border:0"></iframe>'
        framed.write_text(frame)
        for name, size in (("wide", "1280,4200"), ("narrow", "500,5600")):
            page = tried if name == "wide" else framed
            browser(f"--window-size={size}", f"--screenshot={arguments.out.resolve() / name}.png", page.as_uri())
        for width in (1280, 500):
            title = browser(f"--window-size={width},1000", "--dump-dom", tried.as_uri())
            said = title.partition("<title>")[2].partition("</title>")[0]
            print(f"{width} px: {said}")
            missed += said != "WORKS"
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
