"""A headless browser for tests of pages, imported where it is used."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
LOCAL = ("http://127.0.0.1", "data:", "blob:", "file:")


@pytest.fixture(name="browser")
def headless_browser():
    """A page of Chromium; ``page.outside`` lists the addresses it asked for outside this machine."""
    with chromium() as page:
        yield page


@contextmanager
def chromium(*arguments: str):
    """Open a page as :func:`headless_browser` does, with further arguments of Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        page = started.new_page()
        page.outside = []
        page.on("request", lambda request: request.url.startswith(LOCAL) or page.outside.append(request.url))
        yield page
        started.close()
