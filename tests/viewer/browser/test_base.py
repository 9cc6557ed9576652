"""The frame of every page: navigation, skip link, light and dark."""

import numpy as np
import pytest

from closedloop.readable import with_error
from closedloop.report.wording import true_minus

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize("device", ["desk", "phone", "small", "wide"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_that_is_not_there_is_a_page(device, theme, page_of, check_accessible, check_width, small_subject):
    page = page_of("/nowhere", device=device, theme=theme, subject=small_subject, allow=["404"])
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()
    check_accessible(page)
    check_width(page)


def test_the_theme_is_the_systems_until_another_is_chosen(page_of, small_subject):
    page = page_of("/nowhere", theme="dark", subject=small_subject, allow=["404"])
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Light colours").click()
    light = page.evaluate(paper)
    assert light != dark
    page.reload()
    assert page.evaluate(paper) == light
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(paper) == dark


def test_numbers_are_written_as_the_reports_write_them(page_of, small_subject):
    page = page_of("/nowhere", subject=small_subject, allow=["404"])
    rng = np.random.default_rng(0)
    pairs = [(float(v * 10.0**p), float(10.0**q)) for v, p, q in rng.uniform(-9, 9, (300, 3)) * (1, 0.8, 0.8)]
    pairs += [(-0.3536, 2.1), (28.31623, 0.0996), (12345.6, 151.0), (-0.001, 3.0), (12.345678, 1e-9), (2.0, 0.0)]
    written = page.evaluate(
        "async (pairs) => { const { withError } = await import('/static/js/dom.js');"
        " return pairs.map(([value, error]) => withError(value, error)); }",
        pairs,
    )
    assert written == [true_minus(with_error(*pair)) for pair in pairs]


def test_the_keyboard_skips_the_navigation(page_of, small_subject):
    page = page_of("/nowhere", subject=small_subject, allow=["404"])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_picture_that_cannot_be_had_says_so_early_and_late(page_of, small_subject):
    page = page_of("/nowhere", subject=small_subject, allow=["404"])
    page.evaluate("""async () => {
      const put = () => {
        const image = new Image();
        image.src = "/nothing.png";
        document.querySelector("main").append(image);
        return image;
      };
      const early = put();
      await new Promise((done) => early.addEventListener("error", done));
      const { sayMissing } = await import("/static/js/dom.js");
      sayMissing();
      put();
    }""")
    expect(page.get_by_text("no picture")).to_have_count(2)


def test_a_long_name_in_the_crumbs_breaks(page_of, small_subject, check_width):
    page = page_of("/nowhere", subject=small_subject, allow=["404"])
    page.evaluate("""() => {
      const [nav, list, item] = ["nav", "ol", "li"].map((name) => document.createElement(name));
      nav.className = "crumbs";
      item.textContent = "x".repeat(300);
      list.append(item);
      nav.append(list);
      document.querySelector(".page").append(nav);
    }""")
    check_width(page)
