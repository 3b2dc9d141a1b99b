"""The report of a sweep in a real browser without a network: every figure is drawn."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.conftest import PLAIN, Sweep
from tests.e2e.test_browser import FLAGS, PATIENCE, save_screenshot

pytestmark = pytest.mark.slow

DRAWN = """() => [...document.querySelectorAll('.plot')].map(plot => ({
    name: plot.id,
    traces: plot.data ? plot.data.length : 0,
    points: plot.data ? Math.max(...plot.data.map(trace =>
        (trace.x || (trace.dimensions && trace.dimensions[0].values) || []).length)) : 0,
    shapes: plot.querySelectorAll('svg path, canvas').length,
    width: plot.getBoundingClientRect().width,
}))"""
FIGURES = ("test_seeds", "test_curves", "search", "pareto", "slices", "hacking", "terms")


class Watched:
    """A page, and what it complained of or asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, path: Path) -> None:
        self.page.goto("about:blank")
        self.errors.clear()
        self.requests.clear()
        self.page.goto(path.as_uri())
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.plot')].every(plot => plot.data)"
        )

    def assert_alone(self, path: Path) -> None:
        """Nothing was complained of, and nothing asked for but the file and what is in it."""
        assert self.errors == []
        outside = [url for url in self.requests if not url.startswith(("data:", "blob:"))]
        assert outside == [path.as_uri()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "no chromium on the PATH: run `make system`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    context.set_offline(True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.route("**/*", only_the_file)
    yield Watched(page)
    context.close()


def only_the_file(route: Any) -> None:
    if route.request.url.startswith(("file:", "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def test_every_figure_of_the_report_is_drawn_offline(smoke: Sweep, watched: Watched):
    path = smoke.folder / "report.html"
    watched.open(path)
    found = {figure["name"]: figure for figure in watched.page.evaluate(DRAWN)}
    assert {f"figure-{name}" for name in FIGURES} <= set(found)
    for name, figure in found.items():
        assert figure["traces"] > 0, name
        assert figure["points"] > 0, name
        assert figure["shapes"] > 0, name
        assert figure["width"] > 600, name
    save_screenshot(watched.page, "report")
    watched.assert_alone(path)


def test_pictures_and_videos_of_the_report_are_shown(smoke: Sweep, watched: Watched):
    watched.open(smoke.folder / "report.html")
    widths = watched.page.evaluate("() => [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert all(width > 500 for width in widths)
    watched.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].every(video => video.readyState >= 1)"
    )
    assert watched.page.locator("video").count() == 2


def test_the_page_is_no_wider_than_a_small_screen(smoke: Sweep, watched: Watched):
    watched.page.set_viewport_size({"width": 800, "height": 900})
    watched.open(smoke.folder / "report.html")
    assert watched.page.evaluate("() => document.documentElement.scrollWidth") <= 800


def test_sweeps_side_by_side_are_drawn_offline(smoke: Sweep, watched: Watched):
    again = ("--preset", "smoke", "--name", "second", "--num-trials", "2", "--seed", "1")
    smoke.scripts.succeed("reward_search", *again, *PLAIN)
    printed = smoke.scripts.succeed("compare", "smoke", "second")
    for words in ("smoke", "second", "over-tuning gap", "figures   compare.html"):
        assert words in printed
    path = smoke.scripts.folder / "compare.html"
    watched.open(path)
    found = watched.page.evaluate(DRAWN)
    assert [figure["name"] for figure in found] == [
        "figure-compared_test",
        "figure-compared_search",
    ]
    assert all(figure["shapes"] > 0 for figure in found)
    watched.assert_alone(path)
