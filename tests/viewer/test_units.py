"""Pages of units over HTTP: addresses with odd names, numbers, pictures, and what is not there."""

import re
from html import unescape

import pytest

from tests import small_atlas

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from closedloop.errors import InvalidArgumentError
from closedloop.subjects import FunctionSubject, GaborSubject, Lossy
from closedloop.viewer import create_app
from closedloop.viewer.shown import Shown
from closedloop.viewer.units import preferred
from tests.viewer.clients import client_of

LAYER, ODD = "/units/a%2Fb.c", "/units/odd%231%3F"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    small_atlas.fill(place / "run", small_atlas.photographs(place / "naturals"))
    return place / "run"


@pytest.fixture(scope="module")
def client(run):
    return TestClient(create_app(atlas=run), base_url="http://127.0.0.1", follow_redirects=False)


def test_layers_lead_to_units_with_all_names_escaped(client):
    assert client.get("/").headers["location"] == "/units"
    page = client.get("/units").text
    assert f'href="{LAYER}"' in page
    assert f'href="{ODD}"' in page
    layer = client.get(LAYER).text
    assert f'href="{LAYER}/10%401%2C3"' in layer
    assert "<h1>a/b.c</h1>" in layer
    assert "<h1>odd#1?</h1>" in client.get(ODD).text


def test_a_unit_has_its_numbers(client):
    page = unescape(client.get(f"{LAYER}/0").text)
    assert "<h1>channel 0 of a/b.c, centre (2, 2)</h1>" in page
    assert "It sees rows 4 to 11 and columns 4 to 11 of the image." in page
    assert "so they have no standard error" in page
    assert page.count('class="card flush"') == 2
    assert "corrected for 6 images of the layer (Benjamini–Hochberg)" in page
    assert "Kruskal–Wallis over 3 classes" in page
    assert "(Holm over 3 units of the layer)" in page
    assert page.count('class="photo"') == 6
    assert f'rel="next" href="{LAYER}/1"' in page
    assert 'rel="prev"' not in page
    assert "Evolve this unit" not in page  # nothing begins jobs here


def test_what_a_run_says_is_escaped(client):
    page = client.get(f"{ODD}/0").text
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<i>" not in page
    assert "Dead: it answers 0" in client.get(f"{ODD}/1").text


def test_every_picture_of_a_page_is_there(client):
    found = set()
    for page in ("/units", LAYER, f"{LAYER}/0", f"{LAYER}/10%401%2C3"):
        found |= set(re.findall(r'"(/api/atlas/[^"]+)"', client.get(page).text))
    assert len(found) > 20
    for address in found:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    "path",
    [
        "/units/nowhere",
        f"{LAYER}/99",
        f"{LAYER}/0/more",
        "/units/%ff/0",
        "/api/atlas/0/made-..%2F..%2Fstate-0.webp",
        "/api/atlas/0/whole-CHECKSUMS-0.webp",
        "/api/atlas/7/natural-0-0.webp",
        "/api/atlas/0/attribution-0-0.webp",
        "/api/atlas/0/made-evolved-0-0-999.webp",
    ],
)
def test_what_is_not_there_is_said(client, path):
    answer = client.get(path)
    assert answer.status_code == 404


def test_several_atlases_are_shown_together(run, tmp_path):
    naturals = run.parent / "naturals"
    small_atlas.fill(tmp_path / "again", naturals, seed=4)
    (tmp_path / "first").symlink_to(run)
    client = TestClient(create_app(atlas=tmp_path), base_url="http://127.0.0.1")
    page = client.get(f"{LAYER}/0").text
    assert page.count('class="card flush"') == 4
    assert "corrected for 12 images of the layer (Benjamini–Hochberg)" in page  # of both together


def test_look_is_given_the_preferred_stimuli(run):
    found = preferred(Shown(small_atlas.Layers(), atlas=run), "a/b.c")
    assert {channel: picture.shape for channel, picture in found.items()} == {0: (8, 8, 3), 1: (8, 8, 3)}
    assert preferred(Shown(small_atlas.Layers(), atlas=run), "nowhere") == {}
    assert preferred(Shown(), "a/b.c") == {}
    assert preferred(Shown(Lossy(small_atlas.Layers(), 0.1), atlas=run), "a/b.c", only=[1]).keys() == {1}


def test_an_atlas_of_another_subject_says_nothing_of_this_one(run):
    other = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="other")
    assert preferred(Shown(other, atlas=run), "a/b.c") == {}


def test_pages_say_that_they_are_of_another_subject_and_begin_no_runs(run):
    other = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="other")
    seen = TestClient(create_app(other, atlas=run), base_url="http://127.0.0.1")
    page = seen.get(f"{LAYER}/0").text
    assert "This atlas is of layers; what is looked at here is other." in page
    assert "Evolve this unit" not in page
    same = TestClient(create_app(small_atlas.Layers(), atlas=run), base_url="http://127.0.0.1")
    assert "This atlas is of" not in same.get(f"{LAYER}/0").text
    assert "Evolve this unit" in same.get(f"{LAYER}/0").text


class Atlas:
    """A book of an atlas, as far as it says whose it is."""

    def __init__(self, of, **experiment):
        self.subject, self.experiment = of.name, experiment


def test_weights_tell_one_network_from_another_of_its_name():
    pytest.importorskip("torch")
    from closedloop.recipes import network_fingerprint
    from tests.planted import planted_subject

    one, other = planted_subject(0, name="planted"), planted_subject(1, name="planted")
    book = Atlas(one, fingerprints={"network": network_fingerprint(one.at("conv", "0-2"))})
    assert Shown(one).foreign(book) == ""
    assert Shown(Lossy(one, 0.1)).is_of(book)
    assert "This atlas is of another planted than the one" in Shown(other).foreign(book)
    assert not Shown(other).is_of(book)
    assert Shown().foreign(book) == ""


def test_an_older_atlas_is_told_by_its_recipe():
    gabor = GaborSubject(count=3, seed=1, resolution=16)
    noisy = {"name": "lossy", "rate": 0.1, "subject": {**gabor.recipe, "engine": "x"}}
    assert Shown(gabor).is_of(Atlas(gabor, subject=noisy))
    assert not Shown(GaborSubject(count=3, seed=2, resolution=16)).is_of(Atlas(gabor, subject=dict(gabor.recipe)))


def test_a_folder_without_an_atlas_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="atlas: expected the folder of a run of closedloop atlas"):
        create_app(atlas=tmp_path)


def test_each_set_of_photographs_has_its_panels_and_is_shown_once(run, tmp_path):
    several = tmp_path / "several"
    several.mkdir()
    naturals, others = (
        small_atlas.photographs(tmp_path / name, seed) for name, seed in (("naturals", 1), ("others", 7))
    )
    for name, folder, seed in (("a", naturals, 0), ("b", others, 0), ("c", naturals, 5)):
        small_atlas.fill(several / name, folder, seed=seed)
    page = unescape(client_of(atlas=several).get(f"{LAYER}/0").text)
    assert page.count('class="histogram"') == 2
    assert "Responses to 30 photographs of naturals" in page
    assert "Responses to 30 photographs of others" in page
    assert page.count('class="photo"') == 12
    assert page.count("Kruskal–Wallis over 3 classes") == 2
    assert "(Holm over 6 pairs of a unit of the layer and a set of photographs)" in page
    assert page.count('class="card flush"') == 6
    assert "above all of others" in page or "% of others" in page
    assert len(re.findall(r'id="([^"]+)"', page)) == len(set(re.findall(r'id="([^"]+)"', page)))
    layer = unescape(client_of(atlas=several).get(LAYER).text)
    assert "its best of 60 photographs" in layer


def test_a_card_holds_what_it_divides(run, tmp_path):
    page = unescape(client_of(atlas=run.parent).get(LAYER).text)
    found = re.findall(
        r'class="evolved">([^<]+)</span> <span class="natural">([^<]+)</span> <span class="soft">×([^<]+)<', page
    )
    assert found
    for made, natural, ratio in found:
        assert float(made) / float(natural) == pytest.approx(float(ratio), rel=0.06)
