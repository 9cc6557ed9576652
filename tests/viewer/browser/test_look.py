"""Look, as a person uses it: clicks, keys, pictures, the camera, codes, links, narrow screens."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

expect = pytest.importorskip("playwright.sync_api").expect

ROOT = Path(__file__).parents[3]


def tile(page, index):
    """Clicks the tile with this number, in the order that is shown."""
    at = page.evaluate(
        """index => {
          const canvas = document.querySelector('.tile-box canvas'), box = canvas.getBoundingClientRect();
          const ring = document.querySelector('.tile-cursor');
          const [w, h] = [ring.offsetWidth + 3, ring.offsetHeight + 3];
          const columns = Math.round((canvas.clientWidth + 3) / w);
          return [(index % columns + 0.5) * w, (Math.floor(index / columns) + 0.5) * h];
        }""",
        index,
    )
    page.locator(".tile-box canvas").click(position={"x": at[0], "y": at[1]})


def selected(page):
    return int(page.locator("[role=option]").get_attribute("data-channel"))


def query(page):
    return dict(re.findall(r"[?&](\w+)=([^&]*)", page.url))


def settled(page):
    """Waits until the server has said all about what is chosen."""
    expect(page.locator(".desk")).to_have_attribute("data-busy", "false")
    expect(page.locator("#facts .value")).to_have_text(re.compile(r"\d"))


@pytest.fixture
def look(page_of, small_subject):
    def opened(path="/look?layer=second", subject=small_subject, **more):
        page = page_of(path, subject=subject, **more)
        settled(page)
        return page

    return opened


def png(size=(80, 60)):
    """A picture that is not square, and looks different when it is stretched."""
    out = io.BytesIO()
    Image.linear_gradient("L").rotate(90).resize(size).convert("RGB").save(out, "PNG")
    return out.getvalue()


def test_a_layer_is_chosen_and_a_unit_clicked(look, photograph):
    page = look()
    expect(page.locator("#unit-name")).to_have_text("second : 0")
    page.get_by_role("radio", name=re.compile("^first")).check()
    expect(page.locator("#unit-name")).to_have_text("first : 0")
    settled(page)
    tile(page, 5)
    expect(page.locator("#unit-name")).to_have_text("first : 5")
    settled(page)
    assert query(page)["layer"] == "first"
    assert query(page)["unit"] == "5"
    expect(page.locator("#over .field")).to_have_count(1)
    photograph(page, "look-unit")


def test_all_channels_are_drawn(look):
    page = look()
    different = page.evaluate(
        """() => {
          const canvas = document.querySelector('.tile-box canvas');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(data).size;
        }"""
    )
    assert different > 20


def test_each_key_does_what_the_help_says(look):
    page = look()
    press = page.keyboard.press
    press("ArrowRight")
    assert selected(page) == 1
    press("l")
    press("j")
    press("k")
    below = selected(page)
    assert below > 1
    press("i")
    assert selected(page) == 1
    press("L")
    assert selected(page) == 4
    press("Shift+ArrowLeft")
    assert selected(page) == 1
    press("End")
    assert selected(page) == 19
    press("Home")
    assert selected(page) == 0
    press("o")
    expect(page.locator("#unit-name")).to_have_text("act : 0")
    press("u")
    expect(page.locator("#unit-name")).to_have_text("second : 0")
    for key, name, value in (
        ("r", "sort", "activation"),
        ("t", "gamma", "0.7"),
        ("T", "individual", "0.3"),
        ("a", "shows", "backward"),
        ("a", "shows", "activations"),
        ("0", "fit", "stretch"),
    ):
        press(key)
        expect(page.locator(f"input[name={name}][value='{value}']")).to_be_checked()
    for key, method, filter_ in (
        ("b", "gradient", "raw"),
        ("b", "gradient", "norm"),
        ("b", "deconvnet", "raw"),
        ("n", "off", "raw"),
        ("n", "gradient", "raw"),
        ("m", "gradient", "gray"),
    ):
        press(key)
        expect(page.locator("#method")).to_have_value(method)
        expect(page.locator("#filter")).to_have_value(filter_)
    expect(page.locator("#back-picture")).to_have_js_property("complete", True)
    settled(page)
    press("d")
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("(frozen)")
    press("z")
    expect(page.locator("#zoomed canvas")).to_have_attribute("aria-label", re.compile("Unit .*, large"))
    press("z")
    expect(page.locator("#zoomed canvas")).to_have_attribute("aria-label", "Back-propagation, large")
    press("z")
    expect(page.locator("#zoomed")).to_be_hidden()
    press("5")
    expect(page.locator("#status")).to_contain_text("model")
    picture = query(page)["input"]
    press("e")
    expect(page).not_to_have_url(re.compile(picture))
    press("w")
    expect(page).to_have_url(re.compile(picture))
    press("h")
    expect(page.locator("#keys")).to_be_visible()
    press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    press("x")
    expect(page.get_by_role("dialog", name="Save a picture")).to_be_visible()
    press("Escape")
    press("Escape")
    expect(page.locator("#method")).to_have_value("off")
    assert selected(page) == 0


def test_top_five_come_and_go(look):
    page = look()
    if page.locator("#answer").is_visible():
        page.keyboard.press("8")
        expect(page.locator("#answer")).to_be_hidden()
        page.keyboard.press("8")
        expect(page.locator("#answer")).to_be_visible()


def test_single_keys_can_be_switched_off(look):
    page = look()
    page.keyboard.press("h")
    page.get_by_label("Single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.locator("input[name=sort][value=index]")).to_be_checked()
    page.locator(".tile-box").focus()
    page.keyboard.press("ArrowRight")
    assert selected(page) == 1


def test_a_number_is_typed(look):
    page = look()
    page.keyboard.press("g")
    page.keyboard.type("13")
    page.keyboard.press("Enter")
    expect(page.locator("#unit-name")).to_have_text("second : 13")
    page.keyboard.press("ArrowRight")  # keys are the units' again
    expect(page.locator("#unit-name")).to_have_text("second : 14")
    page.keyboard.press("g")
    page.keyboard.type("999")
    page.keyboard.press("Enter")
    expect(page.locator("#unit-name")).to_have_text("second : 19")


def test_order_puts_the_strongest_first(look):
    page = look()
    page.get_by_role("radio", name="Activation", exact=True).check()
    settled(page)
    page.keyboard.press("Home")
    settled(page)
    expect(page.locator("#facts")).to_contain_text("1 of 20")


def test_a_picture_is_opened_and_a_bad_one_refused(look):
    page = look(allow=["40[0-9]|413|415"])
    page.locator("#file").set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": png()})
    expect(page.locator("#title")).to_have_text("red.png")
    expect(page.locator("#strip .thumb").first).to_have_attribute("aria-pressed", "true")
    before = query(page)["input"]
    page.keyboard.press("0")
    expect(page).not_to_have_url(re.compile(f"input={before}$|input={before}&"))
    page.locator("#file").set_input_files({"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#alert")).to_be_hidden()


def test_what_is_refused_is_told_though_an_older_request_ends_well(look):
    page = look(allow=["40[0-9]|413|415"])
    waiting = []
    page.route("**/api/look?*", lambda route: waiting.append(route))
    page.keyboard.press("ArrowRight")
    page.locator("#file").set_input_files({"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_be_visible()
    waiting.pop().continue_()
    settled(page)
    expect(page.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(how, look):
    page = look()
    page.evaluate(
        """([how, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], 'given.png', {type: 'image/png'}));
          const drop = document.querySelector('#drop');
          const paste = new ClipboardEvent('paste', {clipboardData: data, bubbles: true});
          if (how === 'paste') document.dispatchEvent(paste);
          else drop.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        [how, list(png())],
    )
    expect(page.locator("#title")).to_have_text("given.png")
    settled(page)


def test_the_camera_runs_freezes_and_ends(look, photograph):
    page = look("/look?layer=second&method=gradient")
    page.keyboard.press("c")
    expect(page.locator("#status")).to_contain_text("frames/s")
    expect(page.locator("#frame")).to_be_visible()
    photograph(page, "look-camera")
    page.keyboard.press("f")
    expect(page.locator("#status")).to_contain_text("camera, frozen")
    settled(page)
    page.keyboard.press("ArrowRight")  # asks again, with the frame that was kept
    settled(page)
    expect(page.locator("#back-caption")).to_contain_text("second : 1")
    page.keyboard.press("f")
    expect(page.locator("#status")).not_to_contain_text("frozen")
    page.get_by_role("button", name="Stop camera").click()
    expect(page.get_by_role("button", name="Start camera")).to_be_visible()
    page.get_by_role("radio", name="Pictures", exact=True).check()
    expect(page.locator("#shown")).to_be_visible()


def test_a_code_is_moved_by_its_sliders(look):
    from closedloop.generators import Fourier

    page = look(generator=Fourier(64, 8))
    page.get_by_role("radio", name="Codes", exact=True).check()
    expect(page.locator("#title")).to_have_text("from a code")
    settled(page)
    first = query(page)["input"]
    page.get_by_label("Axis 1", exact=True).focus()
    page.keyboard.press("End")
    expect(page).not_to_have_url(re.compile(f"input={first}"))
    second = query(page)["input"]
    page.get_by_label("Morph", exact=True).fill("0.5")
    expect(page).not_to_have_url(re.compile(f"input={second}"))
    page.get_by_role("button", name="Walk").click()
    expect(page.locator("#status")).to_contain_text("frames/s")
    page.keyboard.press("q")
    expect(page.get_by_role("button", name="Walk")).to_have_attribute("aria-pressed", "false")


def test_a_link_shows_what_it_says(look):
    page = look("/look?layer=first&unit=7&sort=activation&method=gradient&filter=norm&gamma=0.5")
    expect(page.locator("#unit-name")).to_have_text("first : 7")
    expect(page.locator("input[name=sort][value=activation]")).to_be_checked()
    expect(page.locator("#method")).to_have_value("gradient")
    expect(page.locator("#back-picture")).to_be_visible()
    link = page.url
    page.reload()
    settled(page)
    assert page.url == link


def test_a_link_to_what_is_not_there_shows_what_is(look):
    page = look("/look?layer=nowhere&unit=9999&input=gone&sort=bad&gamma=7", allow=["404"])
    expect(page.locator("#unit-name")).to_have_text(re.compile(r"\w+ : \d+"))
    expect(page.locator("#alert")).to_contain_text("not here: layer nowhere; the picture gone")
    page.goto(page.url.split("/look")[0] + "/look?layer=second&unit=9999")
    expect(page.locator("#alert")).to_contain_text("unit 9999 of second, which has")
    settled(page)
    page.keyboard.press("Home")
    expect(page.locator("#alert")).to_be_hidden()


def test_the_newest_click_wins(look):
    page = look()
    slow = []

    def later(route):
        if not slow:
            slow.append(route)  # the first is answered last
        else:
            route.continue_()

    page.route("**/api/look*", later)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#unit-name")).to_have_text("second : 2")
    settled(page)
    page.wait_for_timeout(100)
    expect(page.locator("#unit-name")).to_have_text("second : 2")
    assert slow


def test_help_and_document_hold_every_key_of_the_page(look):
    page = look()
    page.keyboard.press("h")
    rows = page.locator("#key-rows tr")
    told = [[cell.strip() for cell in row.locator("td").all_text_contents()] for row in rows.all()]
    document = (ROOT / "docs" / "viewer.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", document.split("### Keys")[1].split("\n#")[0], re.M)
    kept = [[re.sub("[`\\\\]", "", cell).strip() for cell in row] for row in listed[1:]]
    assert [[re.sub(r"\s+", " ", c) for c in row] for row in told] == [r for r in kept if not r[0].startswith("-")]


def test_it_begins_dark(look):
    page = look(theme="light")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("device", ["phone", "small"])
def test_a_phone_shows_all_without_scrolling_sideways(device, look, check_width, photograph):
    page = look("/look?layer=second&method=gradient", device=device)
    check_width(page)
    page.get_by_label("Layer", exact=True).select_option("first")
    expect(page.locator("#unit-name")).to_have_text("first : 0")
    settled(page)
    tile(page, 4)
    expect(page.locator("#unit-name")).to_have_text("first : 4")
    expect(page.locator("#back-picture")).to_be_visible()
    check_width(page)
    photograph(page, f"look-{device}", full=True)


@pytest.mark.parametrize("device", ["desk", "phone"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_shuts_people_out(device, theme, look, check_accessible):
    from closedloop.generators import Fourier

    page = look("/look?layer=second&method=gradient", device=device, generator=Fourier(64, 8))
    if theme == "light":
        page.get_by_role("button", name="Light colours").click()
    check_accessible(page)
    page.get_by_role("radio", name="Codes", exact=True).check()
    settled(page)
    check_accessible(page)
    page.locator("#help").click()
    check_accessible(page)


def test_what_units_prefer_is_shown_where_it_is_known(look, monkeypatch):
    pattern = np.full((32, 32, 3), (250, 20, 20), np.uint8)
    monkeypatch.setattr("closedloop.viewer.look.preferred", lambda shown, layer: {0: pattern})
    page = look()
    expect(page.locator("#prefers canvas")).to_have_attribute("aria-label", "Preferred stimulus of unit 0")
    page.keyboard.press("9")
    expect(page.locator("#prefers")).to_be_hidden()
    page.keyboard.press("9")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#prefers")).to_be_hidden()
    page.keyboard.press("s")
    expect(page.locator("#note")).to_contain_text("19 of 20 units have no preferred stimulus")


def test_a_black_box_says_why_there_are_no_gradients(look, check_accessible):
    from closedloop.subjects import FunctionSubject

    def recorded(images: np.ndarray) -> np.ndarray:
        return images.mean((2, 3)) @ np.ones((3, 6)) + np.arange(6)

    page = look("/look", subject=FunctionSubject(recorded, name="rig", units=6))
    expect(page.locator("#why-not")).not_to_be_empty()
    expect(page.locator("#back-tools")).to_be_hidden()
    check_accessible(page)


def test_the_walk_rests_while_nobody_sees_it(look):
    page, made = look(generator="fourier"), []
    page.on(
        "request", lambda request: request.url.endswith("/api/codes") and request.method == "POST" and made.append(1)
    )
    page.keyboard.press("v")
    settled(page)
    page.locator("#walk").click()
    page.wait_for_timeout(1000)
    assert len(made) > 2
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(500)  # what was on its way
    before = len(made)
    page.wait_for_timeout(1000)
    assert len(made) == before
    page.evaluate(hide, False)
    page.wait_for_timeout(1000)
    assert len(made) > before
    page.locator("#walk").click()
