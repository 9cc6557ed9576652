"""Runs in a browser: found, followed while they go on, ended, and after their process was killed."""

import re

import pytest

from closedloop.analysis.run_index import run_id
from closedloop.recording.reader import open_recording
from tests import slow_run, small_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs")
    small_runs.run("evolve", made / "first")
    small_runs.run("evolve", made / "second")
    small_runs.run("present", made / "photographs")
    small_runs.cut_off("evolve", made / "pilot" / "cut")
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))


def expect(locator):
    from playwright.sync_api import expect as expected

    return expected(locator)


def names(page):
    return page.locator("tbody th a").all_text_contents()


@pytest.mark.long
@pytest.mark.parametrize(("device", "theme"), [("desk", "light"), ("phone", "dark")])
def test_all_pages_are_accessible(folder, page_of, check_accessible, check_width, photograph, device, theme):
    ids = [run_id(name) for name in ("first", "second")]
    for address, ready in (
        ("/runs", "tbody th a"), (f"/runs/{ids[0]}", "#plot canvas"), (f"/runs/{run_id('pilot/cut')}", "#plot canvas"),
        (f"/runs/{run_id('photographs')}", ".table td"), (f"/runs/compare?ids={','.join(ids)}", "#found td"),
        ("/runs?q=nothing", ".empty"),
    ):  # fmt: skip
        page = page_of(address, device=device, theme=theme, runs=folder)
        page.locator(ready).first.wait_for()
        page.wait_for_load_state("networkidle")
        check_accessible(page)
        check_width(page)
        name = re.sub(r"\W+", "-", address)[1:20]
        photograph(page, f"{name}-{device}-{theme}", full=True)


@pytest.mark.long
def test_search_order_and_comparison(folder, page_of):
    page = page_of("/runs", runs=folder)
    page.get_by_role("searchbox", name="Search").fill("second cells")
    expect(page.get_by_role("status")).to_contain_text("of 1 rows")
    assert names(page) == ["second"]
    assert "q=second+cells" in page.url
    page.get_by_role("searchbox", name="Search").fill("")
    expect(page.get_by_role("status")).to_contain_text("of 7 rows")
    page.get_by_role("radio", name="Interrupted").check()
    expect(page.get_by_role("status")).to_contain_text("of 2 rows")
    page.get_by_role("radio", name="All").check()
    page.locator("th button[value=path]").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("run")
    assert names(page)[0] == "first"
    page.get_by_role("checkbox", name="Compare first cells").check()
    page.get_by_role("checkbox", name="Compare second cells").check()
    page.get_by_role("button", name="Compare 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 runs on one axis")
    expect(page.locator("#found tbody tr")).to_have_count(4)
    page.get_by_role("radio", name="Generations").check()
    expect(page.locator("#plot canvas")).to_be_visible()


@pytest.mark.long
def test_a_run_is_followed_and_ended(tmp_path, page_of):
    process = slow_run.start(tmp_path / "runs" / "live", 0.3, generations=3)
    page = page_of(f"/runs/{run_id('live')}", runs=tmp_path / "runs")
    expect(page.locator("#state")).to_have_text("running")
    before = int(page.locator("#generation").inner_text().replace("survey", "-1").replace("–", "-1"))
    expect(page.locator("#strip-cell-0 img").nth(before + 3)).to_be_attached(timeout=30_000)
    expect(page.locator("#people-cell-1 img").first).to_be_visible()
    page.get_by_role("button", name="End after this generation").click()
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="End after this generation").click()
    page.get_by_role("button", name="End it").click()
    expect(page.locator("#state")).to_have_text("stopped", timeout=60_000)
    expect(page.get_by_text("evolved ÷ natural").first).to_be_visible(timeout=30_000)
    assert process.wait(30) == 0
    assert "ended on request" in open_recording(tmp_path / "runs" / "live").attrs["reason"]


@pytest.mark.long
def test_ten_tabs_follow_a_run_at_once(tmp_path, page_of):
    """A browser opens six connections to a server for all tabs together."""
    process = slow_run.start(tmp_path / "runs" / "live", 0.3, generations=3, images=6000)
    try:
        first = page_of(f"/runs/{run_id('live')}", runs=tmp_path / "runs")
        tabs = [first, *(first.context.new_page() for _ in range(9))]
        for tab in tabs[1:]:
            tab.goto(f"/runs/{run_id('live')}", wait_until="domcontentloaded", timeout=20_000)
        for tab in tabs:
            expect(tab.locator("#generation")).to_have_text(re.compile(r"\d+"), timeout=20_000)
        for tab in tabs:
            now = tab.locator("#generation").inner_text()
            expect(tab.locator("#generation")).not_to_have_text(now, timeout=20_000)
            expect(tab.locator("#strip-cell-0 img").nth(2)).to_be_attached(timeout=20_000)
    finally:
        process.kill()
        process.wait(30)


def test_a_damaged_run_is_said_beside_the_others(tmp_path, page_of, check_accessible, check_width, photograph):
    for name in ("good", "broken"):
        small_runs.run("evolve", tmp_path / "runs" / name)
    ids = ",".join(run_id(name) for name in ("good", "broken"))
    shown = page_of("/runs", runs=tmp_path / "runs")
    expect(shown.locator("tbody th a")).to_have_count(4)
    shown.close()  # it would ask for pictures of the damaged one
    (tmp_path / "runs" / "broken" / "COMMITTED.json").write_bytes(b"{}")
    for device in ("desk", "phone"):
        page = page_of(f"/runs/compare?ids={ids}", device=device, runs=tmp_path / "runs")
        expect(page.locator("#problems li")).to_contain_text("broken cannot be shown.")
        expect(page.locator("#found tbody tr")).to_have_count(2)
        expect(page.locator("#plot canvas")).to_be_visible()
        check_accessible(page)
        check_width(page)
        photograph(page, f"compare-damaged-{device}", full=True)


@pytest.mark.long
def test_the_kill_of_the_writer_is_said(tmp_path, page_of):
    process = slow_run.start(tmp_path / "runs" / "live", 0.3, generations=3)
    page = page_of(f"/runs/{run_id('live')}", runs=tmp_path / "runs")
    expect(page.locator("#strip-cell-0 img").first).to_be_visible()
    process.kill()
    process.wait(30)
    expect(page.locator("#state")).to_have_text("interrupted", timeout=20_000)
    expect(page.locator("#interrupted")).to_contain_text(f"closedloop resume {tmp_path / 'runs' / 'live'}")
    expect(page.get_by_role("button", name="End after this generation")).to_be_hidden()
    again = slow_run.start(tmp_path / "runs" / "live", 0.3, generations=3)
    expect(page.locator("#state")).to_have_text("running", timeout=90_000)
    again.kill()
    again.wait(30)


@pytest.mark.long
def test_the_report_is_one_click_away(folder, page_of):
    page = page_of(f"/runs/{run_id('first')}", runs=folder)
    page.get_by_role("link", name="Report").click()
    page.wait_for_url("**/report", timeout=120_000)
    expect(page.get_by_role("heading", level=1).first).to_be_visible()


def loaded(page, image, most_s=60):
    """Waits until a picture is there."""
    for _ in range(10 * most_s):
        if image.evaluate("image => image.complete && image.naturalWidth > 100"):
            return
        page.wait_for_timeout(100)
    raise AssertionError("no picture came")


def test_a_network_that_learns_is_drawn_again_while_it_does(tmp_path, page_of, check_accessible):
    import torch

    from closedloop.networks.modules import born
    from closedloop.protocols import LossChangeAllocation

    model = born(lambda: torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)), 0)
    data = torch.linspace(-1, 1, 48).reshape(12, 4), torch.arange(12) % 3
    lca = LossChangeAllocation(model, torch.nn.functional.cross_entropy, data, save=tmp_path / "runs" / "learns")

    def learn(steps):
        for _ in range(steps):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(0.99)
            lca.stepped()
        lca.commit()

    learn(3)
    page = page_of(f"/runs/{run_id('learns')}", runs=tmp_path / "runs")
    movie = page.locator("img[data-file='allocation.webp']")
    movie.scroll_into_view_if_needed()
    loaded(page, movie)
    expect(page.locator("#state")).to_contain_text("running")
    check_accessible(page)
    learn(3)
    expect(movie).to_have_attribute("src", re.compile(r"/drawings/allocation\.webp\?commits=2$"))
    loaded(page, movie)
    lca.finish()
    expect(page.locator("#state")).to_contain_text("finished")


@pytest.mark.parametrize(("device", "theme"), [("desk", "light"), ("phone", "dark")])
def test_what_a_person_at_a_rig_is_told_stands_above_all_else_until_it_is_over(
    tmp_path, page_of, check_accessible, check_width, photograph, device, theme
):
    import time

    from closedloop.recording.notes import add_note
    from closedloop.recording.ownership import OwnFolder

    def tell(text, about, well=False, ago=0.0):
        add_note(run, {"at_s": time.time() - ago, "text": text, "about": about, "well": well})

    run = small_runs.cut_off("evolve", tmp_path / "runs" / "rig")
    tell("lost trials now 31 % (15 of the last 50)", "lost trials", ago=200_000)
    own = OwnFolder(run)
    page = page_of(f"/runs/{run_id('rig')}", device=device, theme=theme, runs=tmp_path / "runs")
    standing, aloud = page.locator("#standing p"), page.locator("#aloud")
    expect(standing).to_have_count(1)
    expect(standing.locator("time")).to_have_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"))
    expect(aloud).to_have_text("Attention: lost trials now 31 % (15 of the last 50)")
    tell("rig silent for 5 s", "silence", ago=5)
    expect(standing).to_have_count(2)
    expect(aloud).to_have_text("Attention: rig silent for 5 s")
    tell("rig silent for 10 s", "silence")
    expect(standing.first).to_have_text(
        re.compile(r"Rig silent for 10 s since \d\d:\d\d:\d\d, last told at \d\d:\d\d:\d\d")
    )
    expect(aloud).to_have_text("Attention: rig silent for 5 s")  # it is not said again with every number
    check_accessible(page)
    check_width(page)
    photograph(page, f"run-told-{device}-{theme}", full=True)
    tell("the rig answers again", "silence", well=True)
    expect(standing).to_have_count(1)
    expect(aloud).to_have_text("the rig answers again")
    expect(page.locator("#told-list li")).to_have_count(3)
    own.release()
    expect(page.locator("#standing")).to_be_hidden()
    expect(page.locator("#told-list li").first).to_contain_text("The rig answers again")
