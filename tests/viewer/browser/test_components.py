"""What all pages are built from: every component once, light and dark, wide and narrow; a plot and its numbers."""

from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, FileSystemLoader

expect = pytest.importorskip("playwright.sync_api").expect

HERE = Path(__file__).parent / "components"


@pytest.fixture(scope="module")
def address(served_app):
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import FileResponse, HTMLResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    from closedloop.viewer import pages
    from closedloop.viewer.manners import Manners

    made = pages.environment().overlay(loader=ChoiceLoader([FileSystemLoader(HERE), FileSystemLoader(pages.TEMPLATES)]))
    text = made.get_template("components.html").render(
        parts=["look", "units", "runs", "errors"], static=pages.static_address, root="/", path="/runs", subject="lite0"
    )

    async def page(_request):
        return HTMLResponse(text)

    async def script(_request):
        return FileResponse(HERE / "components.js")

    routes = [Route("/", page), Route("/components.js", script), Mount("/static", StaticFiles(directory=pages.STATIC))]
    with served_app(Starlette(routes=routes, middleware=[Middleware(Manners)])) as found:
        yield found


@pytest.mark.parametrize("device", ["desk", "phone", "small"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_components_shut_nobody_out(device, theme, page_of, address, check_accessible, check_width, photograph):
    page = page_of("/", device=device, theme=theme, address=address)
    expect(page.locator("#plot canvas")).to_be_visible()
    page.get_by_text("Numbers", exact=True).click()
    check_accessible(page)
    check_width(page)
    photograph(page, f"components-{device}-{theme}", full=True)


def test_a_plot_says_its_numbers_and_lets_lines_be_switched(page_of, address):
    page = page_of("/", address=address)
    page.get_by_text("Numbers", exact=True).click()
    rows = page.locator("#plot tbody tr")
    expect(rows).to_have_count(40)
    expect(rows.first).to_contain_text("1")
    page.evaluate("document.dispatchEvent(new Event('more'))")
    expect(rows).to_have_count(41)
    line = page.get_by_role("button", name="thread 2")
    line.click()
    expect(page.get_by_role("button", name="thread 2")).to_have_attribute("aria-pressed", "false")
    page.get_by_label("logarithmic").check()
    expect(page.locator("#plot canvas")).to_be_visible()
    page.locator("#plot .u-over").hover()
    expect(page.locator("#plot .readout")).to_contain_text("thread 1")
