"""MLflow's pages over a sweep, in a real browser: what a person compares and watches there."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.conftest import Sweep
from tests.e2e.processes import wait_until
from tests.e2e.record import mlflow_client, mlflow_runs, trials_once
from tests.e2e.test_tracking import SERVER, answers, free_port
from tuners.spec_file import read_spec_file

pytestmark = pytest.mark.slow

# No sandbox: it needs rights that a container's root lacks.  The rest keeps it off the network.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE = 60_000  # ms; the pages are megabytes of script


@pytest.fixture(scope="module")
def pages(smoke: Sweep) -> Iterator[str]:
    """Address of MLflow's pages over the store of the smoke sweep, by the printed command."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = smoke.printed_command("compare")
    program, *arguments = shlex.split(command)
    assert Path(program).name == "mlflow"
    assert arguments == ["ui", "--backend-store-uri", "sqlite:///mlflow.db"]
    server = smoke.scripts.type(f"{command} --port {port}", **SERVER)
    wait_until(lambda: server.ended or answers(url), "MLflow's pages answer")
    assert not server.ended, server.output
    yield url
    server.kill()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "no chromium on the PATH: run `make system`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.route("**/*", only_loopback)
        yield page
        browser.close()


def only_loopback(route: Any) -> None:
    """The pages must work without a network, and the tests must not touch one."""
    if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def visit(page: Page, url: str) -> None:
    page.goto("about:blank")  # or a change of the part after # alone would keep the old page
    page.goto(url)


def save_screenshot(page: Page, name: str) -> None:
    folder = os.environ.get("SHAPESWEEP_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def experiment_of(smoke: Sweep) -> str:
    return str(json.loads((smoke.folder / "mlflow.json").read_text())["experiment_id"])


def run_of(smoke: Sweep, trial: str) -> Any:
    (run,) = [
        r for r in mlflow_runs(smoke.tracking_uri, smoke.name) if r.data.tags["trial"] == trial
    ]
    return run


def validated(smoke: Sweep) -> str:
    trials = trials_once(smoke.folder).values()
    return next(trial["trial"] for trial in trials if trial["phase"] == "validation")


def show_chart(page: Page, metric: str) -> None:
    """Looks for a chart as a person does: there are two dozen, drawn when they come into view."""
    page.get_by_placeholder("Search metric charts").fill(metric)
    page.get_by_text("Step", exact=True).first.wait_for()
    page.get_by_text(metric, exact=True).first.wait_for()
    page.wait_for_timeout(1000)  # lines are drawn after the axes


def test_the_printed_link_shows_the_curves_of_every_trial(smoke, pages, page):
    link = next(line for line in smoke.finished.stdout.splitlines() if "127.0.0.1:5000/" in line)
    visit(page, pages + "/" + link.split("127.0.0.1:5000/")[1].strip())
    for trial in trials_once(smoke.folder):
        page.get_by_text(trial, exact=False).first.wait_for()
    searched = page.locator("input").evaluate_all("inputs => inputs.map(input => input.value)")
    wanted = f"tags.sweep_id = '{read_spec_file(smoke.folder)['sweep_id']}'"
    assert wanted in searched, "other sweeps are left out"
    page.get_by_text("Step", exact=True).first.wait_for()
    page.wait_for_timeout(2000)
    save_screenshot(page, "mlflow_charts")
    show_chart(page, "objective")
    save_screenshot(page, "mlflow_objective")


def make_view(smoke: Sweep, name: str, columns: list[str]) -> None:
    """Saves a view of the table as MLflow's "Share" does: with columns, and the best on top."""
    view = {
        "searchFilter": f"tags.sweep = '{smoke.name}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": False,
        "selectedColumns": columns,
    }
    mlflow_client(smoke.tracking_uri).set_experiment_tag(
        experiment_of(smoke), f"mlflow.sharedViewState.{name}", json.dumps(view)
    )


def test_all_trials_stand_in_one_table_with_parameters_and_scores(smoke, pages, page):
    columns = ["metrics.`objective`", "metrics.`score`", "tags.`kind`"]
    make_view(smoke, "e2e", [*columns, "params.`reward.cos.weight`", "params.`reward.combine`"])
    visit(
        page,
        f"{pages}/#/experiments/{experiment_of(smoke)}/runs?workflowType=machine_learning"
        "&viewStateShareKey=e2e",
    )
    trials = trials_once(smoke.folder)
    for name, trial in trials.items():
        page.get_by_text(name, exact=False).first.wait_for()
        score = page.get_by_text(re.compile(re.escape(str(trial["score"])[:6])))
        score.first.wait_for()
    searched = json.loads(trials["trial-001"]["config"])["reward"]
    for value in (searched["combine"], str(searched["cos.weight"])[:6]):
        page.get_by_text(re.compile(re.escape(value))).first.wait_for()
    page.wait_for_timeout(1000)
    save_screenshot(page, "mlflow_runs")


def test_several_runs_can_be_compared(smoke, pages, page):
    names = [name for name, row in trials_once(smoke.folder).items() if row["phase"] == "search"]
    runs = quote(json.dumps([run_of(smoke, name).info.run_id for name in names]))
    experiments = quote(json.dumps([experiment_of(smoke)]))
    visit(page, f"{pages}/#/compare-runs?runs={runs}&experiments={experiments}")
    page.get_by_text(f"Comparing {len(names)} Runs", exact=False).first.wait_for()
    page.get_by_text("reward.cos.weight").first.wait_for()
    page.get_by_text("objective").first.wait_for()
    page.wait_for_timeout(2000)
    save_screenshot(page, "mlflow_compare")


def artifact_url(smoke: Sweep, pages: str, trial: str, path: str) -> str:
    run = run_of(smoke, trial).info.run_id
    return f"{pages}/#/experiments/{experiment_of(smoke)}/runs/{run}/artifacts/{path}"


def test_the_film_strip_shows_in_the_page_of_a_run(smoke, pages, page):
    visit(page, artifact_url(smoke, pages, "trial-001", "film_strip/trial-001.png"))
    page.wait_for_function(
        "() => [...document.images].some(image => image.naturalWidth > 500 && image.complete)"
    )
    page.wait_for_timeout(500)
    save_screenshot(page, "mlflow_film_strip")


def test_the_video_plays_in_the_page_of_a_run(smoke, pages, page):
    trial = validated(smoke)
    visit(page, artifact_url(smoke, pages, trial, f"video/{trial}.mp4"))
    video = page.locator("video").first
    video.wait_for()
    page.wait_for_function("() => document.querySelector('video').readyState >= 1")
    width, height, seconds = video.evaluate("v => [v.videoWidth, v.videoHeight, v.duration]")
    assert (width, height) == (1240, 300)
    assert seconds > 0.1
    video.evaluate("v => { v.muted = true; return v.play() }")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.05")
    save_screenshot(page, "mlflow_video")


def test_the_page_of_a_run_shows_its_curves_and_parameters(smoke, pages, page):
    run_id = run_of(smoke, "trial-001").info.run_id
    run = f"{pages}/#/experiments/{experiment_of(smoke)}/runs/{run_id}"
    visit(page, run)
    for text in ("reward.cos.weight", "objective", "trial-001"):
        page.get_by_text(text).first.wait_for()
    save_screenshot(page, "mlflow_run")
    visit(page, f"{run}/model-metrics")
    show_chart(page, "score")
    save_screenshot(page, "mlflow_run_curves")
