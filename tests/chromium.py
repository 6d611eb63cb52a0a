"""Debian's Chromium without a window, driven over its debugging pipe: one program, many looks.

`python -m tests.chromium PAGE PICTURE [--width 1400] [--height 900] [--dark]` makes a picture.
"""

import argparse
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 120.0
_FIRST_FD = 20  # below it the program has descriptors of its own

# Where every text of every canvas stands now, in pixels of the page's own scale: {canvas: texts}.
_RECORD_TEXTS = """
(() => {
  const of = new Map();
  globalThis.textsOf = (canvas) => of.get(canvas) || [];
  const proto = CanvasRenderingContext2D.prototype, fill = proto.fillText, clear = proto.clearRect;
  proto.clearRect = function (...box) { of.set(this.canvas, []); return clear.apply(this, box); };
  proto.fillText = function (text, x, y, most) {
    const size = this.measureText(text), at = this.getTransform();
    const xs = [], ys = [], scale = this.canvas.width / this.canvas.clientWidth;
    for (const dx of [-size.actualBoundingBoxLeft, size.actualBoundingBoxRight]) {
      for (const dy of [-size.actualBoundingBoxAscent, size.actualBoundingBoxDescent]) {
        const point = new DOMPoint(x + dx, y + dy).matrixTransform(at);
        xs.push(point.x / scale); ys.push(point.y / scale);
      }
    }
    if (!of.has(this.canvas)) of.set(this.canvas, []);
    of.get(this.canvas).push({ text: text, left: Math.min(...xs), right: Math.max(...xs),
                               top: Math.min(...ys), bottom: Math.max(...ys) });
    return fill.call(this, text, x, y, ...(most === undefined ? [] : [most]));
  };
})();
"""

# What is wrong with how a page stands there, a line each.
_FAULTS = """
(() => {
  const faults = [], seen = (one) => one.checkVisibility({ visibilityProperty: true });
  const meet = (a, b) => Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left),
                                  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  const pairs = (all) => all.flatMap((a, i) => all.slice(i + 1).map((b) => [a, b]));
  const compare = (boxes, where, slack) => pairs(boxes).forEach(([a, b]) => {
    if (meet(a, b) > slack) faults.push(`${where}: "${a.text}" over "${b.text}"`);
  });
  for (const canvas of document.querySelectorAll("canvas")) {
    if (!seen(canvas)) continue;
    const texts = textsOf(canvas).filter((one) => one.text.trim());
    if (!texts.length) faults.push(`${canvas.id}: no text is drawn`);
    compare(texts, canvas.id, 1);
    for (const one of texts) {
      if (one.left < -1 || one.right > canvas.clientWidth + 1 || one.top < -1 ||
          one.bottom > canvas.clientHeight + 1) faults.push(`${canvas.id}: "${one.text}" is cut`);
    }
  }
  const boxes = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script,style,noscript") || !seen(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width) boxes.push({ text: node.data.trim().slice(0, 40), left: box.left,
                                  right: box.right, top: box.top, bottom: box.bottom });
    }
  }
  compare(boxes, "page", 3);
  for (const one of document.querySelectorAll("body *")) {
    if (seen(one) && one.scrollWidth > one.clientWidth + 1 && one.clientWidth &&
        getComputedStyle(one).overflowX !== "visible") {
      const hidden = one.scrollWidth - one.clientWidth;
      faults.push(`${one.tagName} ${one.className}: ${hidden} px hidden`);
    }
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`the page is ${wide} px too wide`);
  return faults.slice(0, 20);
})()
"""


def chromium():
    """The program; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    return found


@contextmanager
def browser(folder: Path):
    """A `Browser`; its profile is in the folder. Raises `TimeoutError` where it does not answer."""
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    arguments = (
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--no-first-run", "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'profile'}",
    )  # fmt: skip
    pipes = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            ("bash", "-c", pipes, "bash", *arguments),
            pass_fds=(theirs_in, theirs_out),
            stdout=log,
            stderr=log,
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        os.close(ours_out)  # it ends with its pipe
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_in)


def _pipe() -> list[int]:
    """Read end and write end, well above the descriptors that the program has of its own."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD) for end in ends]
    for end in ends:
        os.close(end)
    return high


class Browser:
    """One page at a time."""

    def __init__(self, incoming: int, outgoing: int):
        self._in, self._out = incoming, outgoing
        self._rest = b""
        self._last_id = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self._ask("Page.addScriptToEvaluateOnNewDocument", source=_RECORD_TEXTS)

    def open(self, page: Path, width: int, height: int, *, is_dark=False, media=""):
        """Loaded, at this size; `console` is what it says from now on. `media`: "" or "print"."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._events.clear()
        self._ask("Page.navigate", url=page.resolve().as_uri())
        self._wait("Page.loadEventFired")

    @property
    def console(self) -> list[str]:
        """Every word on the console, thrown errors and complaints of the browser included."""
        self.run("0")  # what was said before has arrived when this has
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(one["params"])[:400] for one in self._events if one["method"] in kinds]

    @property
    def faults(self) -> list[str]:
        """Texts over one another or cut, parts that need scrolling aside."""
        found: list[str] = self.run(_FAULTS)
        return found

    def run(self, code: str) -> Any:
        """The value of an expression in the page."""
        found = self._ask(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str):
        """Returns when it is true in the page; fails when it is not for a minute."""
        code = (
            "new Promise((done) => { const end = performance.now() + 60000;"
            f" const look = () => ({expression}) ? done(true)"
            " : performance.now() > end ? done(false) : setTimeout(look, 10); look(); })"
        )
        assert self.run(code), expression

    def mouse(self, kind: str, x: float, y: float, buttons: int = 0, clicks: int = 0):
        """`kind`: Moved, Pressed or Released."""
        self._ask(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=x,
            y=y,
            button="left" if clicks else "none",
            buttons=buttons,
            clickCount=clicks,
        )

    def picture(self, path: Path, *, whole: bool = True):
        """PNG, of the whole page or what a window shows of it."""
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **(
            {"clip": self._whole_page()} if whole else {}
        ))  # fmt: skip
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self._ask("Page.printToPDF", printBackground=True)["data"])

    def _whole_page(self) -> dict[str, float]:
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        record = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            record["sessionId"] = self._session
        os.write(self._out, json.dumps(record).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._last_id:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._events.append(told)

    def _wait(self, method: str):
        while not any(one.get("method") == method for one in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + LIMIT_S
        while b"\0" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError(f"chromium said nothing in {LIMIT_S:.0f} s")
            more = os.read(self._in, 1 << 20)
            if not more:
                raise EOFError("chromium ended")
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        record: dict[str, Any] = json.loads(one)
        return record


def main():
    asked = argparse.ArgumentParser(description="A picture of a page.")
    asked.add_argument("page", type=Path)
    asked.add_argument("picture", type=Path)
    asked.add_argument("--width", type=int, default=1400)
    asked.add_argument("--height", type=int, default=900)
    asked.add_argument("--dark", action="store_true")
    asked.add_argument("--whole", action="store_true", help="not only what a window shows")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as window:
        window.open(given.page, given.width, given.height, is_dark=given.dark)
        window.picture(given.picture, whole=given.whole)
        print("\n".join([*window.console, *window.faults]) or "nothing is wrong")


if __name__ == "__main__":
    main()
