"""A real browser without a window: what a page looks like, and what it complains about."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
needed = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=20000"),
)

# counts in every picture the pixels that are painted, and how many different colours they have
PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const pictures = [...document.querySelectorAll("div.unrolled[id]")].map((host) => {
    const canvas = host.querySelector("canvas");
    if (!canvas) return { id: host.id, painted: 0, colours: 0 };
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    let painted = 0;
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3]) painted++, colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return { id: host.id, painted, colours: colours.size, width: canvas.clientWidth };
  });
  const found = { pictures, inner: innerWidth, wide: document.documentElement.scrollWidth,
                  ground: getComputedStyle(document.body).backgroundColor, more: MORE };
  const out = document.body.appendChild(document.createElement("pre"));
  out.id = "probe";
  out.textContent = JSON.stringify(found);
}, 500));
</script>
"""


def look(page: str, tmp_path: Path, width: int = 1280, dark: bool = False, more: str = "null"):
    """Open a page.

    Args:
        page: its HTML.
        tmp_path: for the browser's files.
        width: of the window; below 500 the page is framed, as no window is so narrow.
        dark: whether the reader prefers a dark ground.
        more: a JavaScript expression whose value is wanted, too.

    Returns:
        What `PROBE` finds, and what was said on the console.
    """
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", PROBE.replace("MORE", more) + "</body>"))
    opened = file
    if width < 500:
        opened = tmp_path / "frame.html"
        opened.write_text(
            f'<iframe id="f" src="page.html" width="{width}" height="3000" style="border:0">'
            "</iframe>"
            "<script>const waiting = setInterval(() => {"
            "const inner = document.getElementById('f').contentDocument?.getElementById('probe');"
            "if (!inner) return; clearInterval(waiting);"
            "document.body.append(Object.assign(document.createElement('pre'),"
            "{id: 'probe', textContent: inner.textContent}))}, 100)</script>"
        )
    done = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={int(not dark)}",
            f"--window-size={max(width, 500)},900",
            "--dump-dom",
            opened.as_uri(),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert probe, (console, done.stderr[-2000:])
    return json.loads(html.unescape(probe[1])), console
