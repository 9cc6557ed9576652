"""Features of a folder: found once, block by block, and the same however often the search for them died."""

import numpy as np
import pytest
from PIL import Image

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Units
from closedloop.twins import pool as pools
from closedloop.twins.pool import Folder, gather_pool


class Colours:
    """A network whose features are the mean colours of an image, and 300 sums of them."""

    name, resolution, fingerprint = "colours", 8, "0" * 64
    units = Units.numbered("colours", 303)

    def __init__(self):
        self.shown = 0
        self._weights = np.random.default_rng(0).standard_normal((3, 300))

    def record(self, images):
        self.shown += len(images)
        means = images.mean((2, 3))
        return np.concatenate([means, means @ self._weights], 1)


@pytest.fixture
def folder(tmp_path):
    """Ten images in two folders; one of them is none."""
    rng = np.random.default_rng(1)
    for i in range(10):
        place = tmp_path / "images" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), tuple(rng.integers(0, 256, 3).tolist())).save(place / f"{i}.png")
    (tmp_path / "images" / "note.txt").write_text("no image")
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(pools, "AT_ONCE", 3)
    monkeypatch.setattr(pools, "TOGETHER", 1)
    monkeypatch.setattr(pools, "ROWS", 4)


def test_images_in_folders_within_a_folder_are_named_by_their_paths(folder):
    found = Folder.of(folder)
    assert len(found) == 10
    assert found.ids[:2] == ("class0/0.png", "class0/2.png")
    assert found.read([0], 8).shape == (1, 3, 8, 8)


def test_features_are_found_once(folder, tmp_path):
    first, again = Colours(), Colours()
    pool = gather_pool(Folder.of(folder), first, tmp_path / "cache")
    same = gather_pool(Folder.of(folder), again, tmp_path / "cache")
    assert first.shown == 20  # the pilot, and all
    assert again.shown == 0
    np.testing.assert_array_equal(pool.features, same.features)
    (folder / "class0" / "0.png").unlink()
    gather_pool(Folder.of(folder), again, tmp_path / "cache")
    assert again.shown == 18


def test_a_search_for_features_that_died_goes_on(folder, tmp_path):
    class Dies(Colours):
        def record(self, images):
            if self.shown >= 16:
                raise KeyboardInterrupt("unplugged")
            return super().record(images)

    whole = gather_pool(Folder.of(folder), Colours(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match="unplugged"):
        gather_pool(Folder.of(folder), Dies(), tmp_path / "cache")
    place = next((tmp_path / "cache" / "pools").iterdir())
    with (place / "features.f16").open("ab") as file:
        file.write(b"half a row")  # of a block that was not committed
    rest = Colours()
    found = gather_pool(Folder.of(folder), rest, tmp_path / "cache")
    assert 0 < rest.shown < 10
    np.testing.assert_array_equal(found.features, whole.features)


def test_what_cannot_be_read_is_left_out(folder, tmp_path):
    (folder / "class1" / "1.png").write_bytes(b"broken")
    with pytest.warns(
        UserWarning, match="1 of 10 images in .* cannot be read and are left out, the first class1/1.png"
    ):
        pool = gather_pool(Folder.of(folder), Colours(), tmp_path / "cache")
    assert [pool.folder.ids[i] for i in pool.unreadable] == ["class1/1.png"]
    numbers, scores = pool.best(np.ones((pool.features.shape[1], 1)), 10, np.zeros(10, bool))
    assert numbers.shape == (1, 9)
    assert pool.unreadable[0] not in numbers
    assert (np.diff(scores[0]) <= 0).all()


def test_the_best_images_are_found_block_by_block(folder, tmp_path):
    pool = gather_pool(Folder.of(folder), Colours(), tmp_path / "cache")
    weights = np.random.default_rng(2).standard_normal((pool.features.shape[1], 5))
    seen = np.zeros(10, bool)
    seen[[2, 7]] = True
    numbers, scores = pool.best(weights, 3, seen)
    every = pool.rows(np.arange(10)) @ weights
    every[seen] = -np.inf
    np.testing.assert_array_equal(numbers, np.argsort(-every, axis=0, kind="stable")[:3].T)
    np.testing.assert_allclose(scores, np.sort(every, axis=0)[::-1][:3].T, rtol=1e-4)


def test_a_projection_keeps_what_is_alike(folder, tmp_path):
    pool = gather_pool(Folder.of(folder), Colours(), tmp_path / "cache")
    assert pool.features.shape[1] == pools.KEPT
    x = Colours().record(Folder.of(folder).read(np.arange(10), 8))
    x = (x - x.mean(0)) / x.std(0)
    kept = pool.rows(np.arange(10))
    alike = np.corrcoef((x @ x.T / 303).ravel(), (kept @ kept.T / pools.KEPT).ravel())[0, 1]
    assert alike > 0.98


def test_a_network_that_cannot_tell_its_weights_keeps_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))
    nameless = Colours()
    nameless.fingerprint = ""
    pool = gather_pool(Folder.of(folder), nameless)
    assert pool.rows(np.array([3])).shape == (1, pools.KEPT)
    assert not (tmp_path / "cache").exists()


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(InvalidArgumentError, match="which is not a folder"):
        Folder.of(tmp_path / "none")
    with pytest.raises(InvalidArgumentError, match="no image in"):
        Folder.of(tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(InvalidArgumentError, match="can be read"):
        gather_pool(Folder.of(tmp_path), Colours(), tmp_path / "cache")


class Places(Colours):
    """The mean colours of four quarters of an image: three channels of 2 x 2 places."""

    name, fingerprint = "places", "1" * 64
    units = Units(
        tuple(f"map.{i}" for i in range(12)),
        {"layer": ("map",) * 12, "channel": tuple(i // 4 for i in range(12))},
    )

    def record(self, images):
        n = len(images)
        return images.reshape(n, 3, 2, 4, 2, 4).mean((3, 5)).reshape(n, 12)


def test_channels_are_averaged_beside_the_places_of_a_layer(folder, tmp_path):
    pool = gather_pool(Folder.of(folder), Places(), tmp_path / "cache")
    assert {name: len(at) for name, at in pool.columns.items()} == {"map": 12, "map, averaged": 3}
    means = Folder.of(folder).read(np.arange(10), 8).mean((2, 3))
    expected = (means - means.mean(0)) / means.std(0)
    np.testing.assert_allclose(pool.rows(np.arange(10))[:, 12:], expected, atol=2e-3)
