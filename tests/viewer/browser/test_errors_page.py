"""The errors page in chromium: the survey runs on, units are asked for, groups are sent."""

import pytest

from tests.planted import planted_folder, planted_subject

pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return {"subject": planted_subject(), "labelled": planted_folder(tmp_path_factory.mktemp("errors") / "pictures")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desk", "phone"])
def test_all_errors_and_one(page_of, check_accessible, planted, device, theme):
    from playwright.sync_api import expect

    page = page_of("/errors", device=device, theme=theme, **planted)
    expect(page.locator("#count")).to_contain_text("3 of 24 images", timeout=20_000)
    expect(page.locator(".tile")).to_have_count(3)
    check_accessible(page)
    page.get_by_role("button", name="Explain all errors").click()
    expect(page.locator("#count")).to_contain_text("3 explained", timeout=20_000)
    page.get_by_role("link", name="Driving units").click()
    expect(page.locator("h2").first).to_contain_text("Units")
    check_accessible(page)
    page.locator(".tile").first.click()
    expect(page.locator(".unit").first).to_contain_text("corrects the answer", timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_accessible(page)
    page.get_by_role("link", name="Next error").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("green, called red")


def test_a_unit_is_explained_when_its_page_is_opened(page_of, planted):
    from playwright.sync_api import expect

    page = page_of("/errors", **planted)
    expect(page.locator("#count")).to_contain_text("3 of 24 images", timeout=20_000)
    page.goto("/errors/20?layer=conv")
    expect(page.locator(".unit").first).to_be_visible(timeout=20_000)
    page.get_by_label("Layer").select_option("relu")
    page.get_by_role("button", name="Explain").click()
    page.wait_for_url("**/errors/20?layer=relu")
    expect(page.locator(".unit").first).to_be_visible(timeout=20_000)
    page.goto("/errors")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export group").first.click()
    assert download.value.suggested_filename.endswith(".zip")


def test_a_long_name_fits_a_phone(page_of, check_width, photograph, tmp_path):
    from playwright.sync_api import expect

    folder = planted_folder(tmp_path / "pictures", n=2, corners=1)
    (folder / "green" / "00.png").rename(folder / "green" / f"{'ILSVRC2012_val_' * 6}.png")
    page = page_of("/errors/1", device="phone", subject=planted_subject(), labelled=folder)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.get_by_role("link", name="Try again").or_(page.locator(".unit")).first.wait_for()
    page.goto("/errors/1")
    expect(page.locator(".unit").first).to_be_visible()
    check_width(page)
    photograph(page, "error-long-name-phone")


def vision_transformer():
    """A small one of random weights, with 4 × 4 patches and a class token."""
    import torch

    from closedloop.networks.modules import born
    from closedloop.subjects import TorchSubject

    nn = torch.nn

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 12, 4, stride=4)
            self.token = nn.Parameter(torch.randn(1, 1, 12))
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(12, 2, 24, 0.0, batch_first=True) for _ in range(2))
            self.head = nn.Linear(12, 2)

        def forward(self, x):
            x = self.patches(x).flatten(2).mT
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
            for block in self.blocks:
                x = block(x)
            return self.head(x[:, 0])

    plain = {"resolution": 16, "engine": "eager", "labels": ["red", "green"], "name": "vision"}
    return TorchSubject(born(Vision, 1).eval(), **plain)


def test_a_transformer_is_explained_by_the_channels_of_its_tokens(
    page_of, check_accessible, check_width, photograph, tmp_path
):
    from playwright.sync_api import expect

    subject, folder = vision_transformer(), planted_folder(tmp_path / "pictures", n=4, corners=2)
    page = page_of("/errors", subject=subject, labelled=folder)
    expect(page.locator("#count")).to_contain_text("of 8 images")
    expect(page.locator(".tile").first).to_be_visible()
    page.locator(".tile").first.click()
    expect(page.locator(".unit")).to_have_count(6)
    photograph(page, "error-transformer", full=True)
    choices = page.locator("#layer option").all_text_contents()
    assert {"patches", "blocks.0", "blocks.1"} <= set(choices)
    for layer, sides in (("patches", {4}), ("blocks.0", {8, 12, 16})):  # up to 3 × 3 patches; all, of the class token
        page.get_by_label("Layer").select_option(layer)
        page.get_by_role("button", name="Explain").click()
        page.wait_for_url(f"**layer={layer}")
        expect(page.locator(".unit")).to_have_count(6)
        boxes = page.locator(".photo .edge").evaluate_all("all => all.map(b => b.width.baseVal.value)")
        assert set(boxes) <= sides
        page.wait_for_load_state("networkidle")
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 || i.loading === 'lazy')")
    check_accessible(page)
    check_width(page)
    photograph(page, "error-transformer-block", full=True)
    page.goto("/look")
    expect(page.locator(".desk:not([data-busy=true])")).to_be_visible()
    page.locator(".layer", has_text="blocks.0").first.click()
    expect(page.locator("#facts")).to_contain_text("Response")
    photograph(page, "look-transformer")
