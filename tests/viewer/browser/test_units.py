"""The atlas and the pages of units, served and as files."""

import pytest

from tests import small_atlas

expect = pytest.importorskip("playwright.sync_api").expect

LAYER = "/units/a%2Fb.c"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    small_atlas.fill(place / "run", small_atlas.photographs(place / "naturals"))
    return place / "run"


@pytest.mark.parametrize(("device", "theme"), [("desk", "light"), ("phone", "dark")])
@pytest.mark.parametrize("path", ["/units", LAYER, f"{LAYER}/0", "/units/odd%231%3F/1"])
def test_pages_are_accessible_and_fit(path, device, theme, run, page_of, check_accessible, check_width, photograph):
    page = page_of(path, device=device, theme=theme, atlas=run)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    check_accessible(page)
    check_width(page)
    photograph(page, f"units{path.replace('/', '-').replace('%', '')}-{device}", full=True)


def test_a_deep_link_shows_the_unit_and_its_pictures(run, page_of):
    page = page_of(f"{LAYER}/10%401%2C3", atlas=run)
    expect(page.get_by_role("heading", name="channel 10 of a/b.c, at (1, 3)")).to_be_visible()
    page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_cards_are_sorted_and_walked_by_keys(run, page_of):
    page = page_of(LAYER, atlas=run)
    cards = page.locator("a.unit .name b")
    expect(cards).to_have_text(["0", "1", "10@1,3"])
    page.get_by_label("Sort by").select_option("ratio")
    ratios = page.evaluate("[...document.querySelectorAll('#units li')].map(l => +l.dataset.ratio)")
    assert ratios == sorted(ratios, reverse=True)
    page.locator("a.unit").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("a.unit").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("channel")


def test_arrows_lead_from_unit_to_unit(run, page_of):
    page = page_of(f"{LAYER}/0", atlas=run)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text("channel 1 of a/b.c, centre (2, 2)")
    page.wait_for_load_state("load")  # the script is there then
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).to_have_text("channel 0 of a/b.c, centre (2, 2)")


def test_the_exported_site_opens_from_the_disk(run, browser, tmp_path, check_accessible):
    from closedloop.viewer.site import write_site

    write_site([run], tmp_path / "site")
    context, asked, wrong = browser.new_context(java_script_enabled=True), [], []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("console", lambda said: wrong.append(said.text))
    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.get_by_role("link", name="a/b.c").click()
    page.locator("a.unit").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("channel 0 of a/b.c, centre (2, 2)")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("channel 1 of a/b.c, centre (2, 2)")
    assert page.evaluate("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")
    assert asked
    assert all(url.startswith(tmp_path.as_uri()) for url in asked)
    assert not wrong
    check_accessible(page)  # last: axe asks for the sheets once more, which a page from the disk may not
    context.close()
