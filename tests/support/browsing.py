"""Pages in Debian's chromium: what they show, say on the console, and ask for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
needs_browser = pytest.mark.skipif(
    shutil.which(CHROMIUM) is None or find_spec("playwright") is None,
    reason="needs Debian's chromium and the package playwright",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Starts the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path, text: str) -> Iterator[Any]:
    """Opens a page; at the end it must have said nothing and asked for nothing but itself."""
    file.write_text(text, "utf-8")
    tab = browser.new_page()
    tab.set_default_timeout(30_000)  # of a busy machine
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    tab.close()


CONTRAST = """cell => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let under = cell;
  const seen = (node) => getComputedStyle(node).backgroundColor;
  while (seen(under) === "rgba(0, 0, 0, 0)") under = under.parentElement;
  const style = getComputedStyle(cell), ink = cell instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [light(ink), light(seen(under))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
