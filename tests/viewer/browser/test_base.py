"""The frame of every page: navigation, skip link, light and dark."""

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize("device", ["desk", "phone", "small", "wide"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_that_is_not_there_is_a_page(device, theme, page_of, check_accessible, check_width, small_subject):
    page = page_of("/nowhere", device=device, theme=theme, subject=small_subject, allow=["404"])
    expect(page.get_by_role("heading", name="404")).to_be_visible()
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


def test_the_keyboard_skips_the_navigation(page_of, small_subject):
    page = page_of("/nowhere", subject=small_subject, allow=["404"])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
