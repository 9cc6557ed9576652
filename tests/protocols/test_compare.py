"""The comparison of methods, on a network small enough to run it in seconds."""

import importlib
import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from closedloop.analysis import advantage, contender_table
from closedloop.analysis.contenders import reached_words
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.generators import Fourier
from closedloop.images.eight_bit import quantize
from closedloop.protocols import Contender, ascend, compare, read_comparison, resume, transfer
from closedloop.recording.reader import open_recording, read_experiment
from closedloop.recording.states import pack_state
from closedloop.report import build_report
from closedloop.subjects import FunctionSubject, TorchSubject

protocol = importlib.import_module("closedloop.protocols.compare")
SIZE = 32
CONTENDERS = (
    Contender("raw", "raw"),
    Contender("lucid", "lucid", {"name": "fourier", "cutoff": 4}),
    Contender("evolved", "evolve", {"name": "fourier", "cutoff": 4}, "isotropic"),
)


def network(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
            torch.nn.Linear(24, 5),
        )  # fmt: skip


def subject(seed: int = 0, units: str = "all") -> TorchSubject:
    return TorchSubject(network(seed), units=units, resolution=SIZE, engine="eager", name="small")


@pytest.fixture(scope="module")
def naturals() -> np.ndarray:
    return quantize(np.random.default_rng(0).random((12, 3, SIZE, SIZE), dtype=np.float32))


@pytest.fixture(scope="module")
def result(naturals):
    return compare(subject(), [3, 1, 0, 2, 4], CONTENDERS, budgets=(90, 150), seeds=(0, 1), naturals=naturals)


def test_has_a_record_for_each_image(result) -> None:
    sizes = {"contender": 3, "budget": 2, "seed": 2, "unit": 5}
    assert {dim: result.sizes[dim] for dim in sizes} == sizes
    assert result["neuroid_id"].values.tolist() == [f"small.output.{i}" for i in (3, 1, 0, 2, 4)]
    for name in ("response", "confidence", "percentile", "tv", "spectral_slope", "feature_distance", "clipped"):
        assert result[name].dims == ("contender", "budget", "seed", "unit")
        assert np.isfinite(result[name]).all(), name


def test_responses_are_those_of_the_stored_images(result, naturals) -> None:
    """Of the 8-bit image itself, in the place of its own unit; and the same for the natural ones."""
    images = result["image"].values.reshape(-1, 3, SIZE, SIZE).astype(np.float32) / 255
    everything = subject().record(images).reshape(3, 2, 2, 5, 5)
    own = np.stack([everything[..., i, column] for i, column in enumerate(result["unit"].values)], -1)
    np.testing.assert_allclose(result["response"], own, rtol=1e-4, atol=1e-5)
    shown = subject().record(naturals)[:, result["unit"].values]
    np.testing.assert_allclose(result["natural_best"], shown.max(0), rtol=1e-5)
    expected = 100 * (shown < result["response"].values[..., None, :]).mean(-2)
    np.testing.assert_allclose(result["percentile"], expected)
    np.testing.assert_allclose(result["confidence"].sum(), torch.from_numpy(everything).softmax(-1).numpy()[
        ..., np.arange(5), result["unit"].values].sum(), rtol=1e-3)  # fmt: skip


def test_budgets_are_kept(result) -> None:
    """Never more than the budget, and nearly all of it; what costs is counted as the docstring says."""
    cost = result["forward_equivalents"]
    for i, budget in enumerate((90, 150)):
        assert (cost.isel(budget=i) <= budget).all()
        assert (cost.isel(budget=i) > 0.7 * budget).all()
    raw = result.sel(contender="raw")
    shown = raw["forwards"] * 3 - raw["forward_equivalents"]  # twice the presentations
    assert (shown % 2 == 0).all()
    assert (shown > 0).all()


def test_counted_in_forwards_a_backward_is_free(naturals) -> None:
    found = compare(subject(), [0], CONTENDERS[:1], budgets=(150,), count="forwards", naturals=naturals)
    assert 120 < found["forwards"].item() <= 150
    assert found["forward_equivalents"].item() > 300


def test_more_budget_is_not_worse_for_the_curve(result) -> None:
    curve = result["curve_response"].values
    assert (np.diff(curve, axis=-1) >= 0).all()
    assert (np.diff(result["curve_cost"].values, axis=-1) >= 0).all()
    assert (curve[..., -1] <= result["best_response"].values + 1e-6).all()


def test_is_what_ascend_finds_alone(result) -> None:
    """A method in a comparison of many units does what it does alone."""
    steps = (150 - 20) // 3
    alone = ascend(subject(), method="raw", unit=1, seed=1, steps=steps, every=-(-steps // 20))
    compared = result.sel(contender="raw", budget="150", seed=1, unit=1)
    assert float(alone["response"]) == pytest.approx(float(compared["response"]), rel=1e-2)


def test_seeds_differ_and_repeat(result, naturals) -> None:
    one, other = (result.sel(contender="evolved", budget="90", seed=s)["response"].values for s in (0, 1))
    assert not np.allclose(one, other)
    again = compare(subject(), [3, 1, 0, 2, 4], CONTENDERS[2:], budgets=(90,), seeds=(0,), naturals=naturals)
    np.testing.assert_array_equal(again["response"].values.ravel(), one)


def test_goes_on_where_it_was_interrupted(tmp_path, naturals, monkeypatch, result) -> None:
    """Finished parts are not run again, and the whole equals an uninterrupted comparison."""
    folder, told, result = tmp_path / "comparison", [], result.sel(budget=["90"])
    arguments = ([3, 1, 0, 2, 4], CONTENDERS)
    options = {"budgets": (90,), "seeds": (0, 1), "naturals": naturals, "save": folder}

    def stop(done: int, of: int, what: str) -> None:
        told.append((done, of))
        if done == 7:
            raise KeyboardInterrupt("stopped by hand")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        compare(subject(), *arguments, **options, progress=stop)
    assert told[-1] == (7, 12)
    assert open_recording(folder).attrs["n_generations"] == 8  # the natural images, and seven parts
    rest = []
    whole = compare(subject(), *arguments, **options, exists="resume", progress=lambda *told: rest.append(told[0]))
    assert rest == list(range(8, 13))
    np.testing.assert_array_equal(whole["response"], result["response"])
    np.testing.assert_array_equal(whole["image"], result["image"])


def test_a_finished_comparison_reads_back(tmp_path, naturals) -> None:
    options = {"budgets": (60,), "naturals": naturals, "save": tmp_path / "one"}
    found = compare(subject(), [2, 0], CONTENDERS[1:], **options)
    assert found.identical(read_comparison(tmp_path / "one"))
    assert found.identical(resume(tmp_path / "one"))
    assert found.identical(compare(subject(), [2, 0], CONTENDERS[1:], **options, exists="resume"))


def test_refuses_the_folder_of_another_comparison(tmp_path, naturals) -> None:
    compare(subject(), [0], CONTENDERS[:1], budgets=(60,), naturals=naturals, save=tmp_path / "one")
    with pytest.raises(RecordingError, match=r"save: expected a new or empty folder"):
        compare(subject(), [0], CONTENDERS[:1], budgets=(60,), naturals=naturals, save=tmp_path / "one")
    other = {"budgets": (60,), "naturals": naturals, "save": tmp_path / "one", "exists": "resume"}
    with pytest.raises(RecordingError, match=r"exists: .* another experiment: units is \[0\] there, and \[1\] here"):
        compare(subject(), [1], CONTENDERS[:1], **other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RecordingError, match="expected a new or empty folder"):
        compare(subject(), [1], CONTENDERS[:1], budgets=(60,), naturals=naturals, save=tmp_path / "mine")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["thesis.txt"]


def test_a_report_is_about_the_units_that_were_compared_and_says_why_a_method_failed(tmp_path, naturals, monkeypatch):
    run_contender = protocol.run_contender
    monkeypatch.setattr(
        protocol,
        "run_contender",
        lambda subject, contender, *rest: (
            run_contender(subject, contender, *rest)
            | ({"failure": ["no gradient", ""]} if contender.label == "raw" else {})
        ),
    )
    run = tmp_path / "compared"
    compare(subject(), [3, 1], [CONTENDERS[0], CONTENDERS[2]], budgets=(60,), naturals=naturals, save=run)
    page = build_report([run])
    for word in ("What do raw, evolved find for unit 3", "raw failed in 1 of 2: no gradient", "Budget: 60"):
        assert word in page
    assert [f"<h4>unit {i} of" in page for i in range(5)] == [False, True, False, True, False]


def test_does_not_go_on_with_other_weights(tmp_path, naturals, monkeypatch) -> None:
    options = {"budgets": (60,), "naturals": naturals, "save": tmp_path / "one", "exists": "resume"}
    found = compare(subject(), [0], CONTENDERS, **options)
    raw, lucid, evolved = found["generator_sha256"].values
    assert lucid == evolved != raw
    monkeypatch.setattr(Fourier, "fingerprint", property(lambda self: "of other weights"), raising=False)
    with pytest.raises(
        InvalidArgumentError, match=r"generator of lucid: expected the generator of lucid with which .*restore"
    ):
        compare(subject(), [0], CONTENDERS, **options)
    changed = compare(subject(), [0], CONTENDERS, **(options | {"save": tmp_path / "two"}))
    assert changed["generator_sha256"].values.tolist() == [raw, "of other weights", "of other weights"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"units": [7]}, r"units: 7 is out of range; the subject has response columns 0 to 4"),
        ({"units": [1, 1]}, r"units: column 1 is named twice"),
        ({"budgets": (3,)}, "budgets: expected a whole number of at least 50, got 3"),
        ({"count": "images"}, "count: expected 'forward_equivalents' or 'forwards', got 'images'"),
        ({"methods": ("raw", "raw")}, "methods: expected one or more with different labels"),
        ({"seeds": ()}, "budgets, seeds: expected at least one each"),
        ({"methods": (Contender("a/b", "raw"),)}, "label: expected letters"),
    ],
)
def test_refuses_what_does_not_fit(change, text, naturals) -> None:
    given = {"units": [0], "methods": ("raw",), "naturals": naturals, **change}
    with pytest.raises(InvalidArgumentError, match=text):
        compare(subject(), given.pop("units"), given.pop("methods"), **given)


def test_unknown_method_is_named() -> None:
    with pytest.raises(UnknownNameError, match="no method 'lucyd'"):
        compare(subject(), [0], ("lucyd",))


def test_gradients_need_a_differentiable_subject(naturals) -> None:
    black_box = FunctionSubject(lambda images: images.mean((2, 3)), 3)
    with pytest.raises(InvalidArgumentError, match="differentiable"):
        compare(black_box, [0], (Contender("raw", "raw", {"name": "pixels", "resolution": SIZE}),), naturals=naturals)


def test_confidence_only_where_all_outputs_are_recorded(naturals) -> None:
    found = compare(subject(units="0-2"), [0], CONTENDERS[:1], budgets=(60,), naturals=naturals)
    assert np.isnan(found["confidence"]).all()


def test_transfer_shows_the_images_to_others(result, naturals) -> None:
    same, other = subject(), subject(seed=1)
    found = transfer(result, {"itself": same, "other": other}, naturals)
    np.testing.assert_allclose(found.sel(to="itself")["response"], result["response"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sel(to="itself")["percentile"], result["percentile"])
    assert not np.allclose(found.sel(to="other")["response"], result["response"])
    with pytest.raises(InvalidArgumentError, match="subjects: expected 'few' to record"):
        transfer(result, {"few": subject(units="0")}, naturals)


def test_table_gives_medians_over_units(result) -> None:
    table = contender_table(result)
    expected = np.median(result["response"].sel(contender="lucid", budget="150").mean("seed"))
    assert float(table["response"].sel(contender="lucid", budget="150")) == pytest.approx(expected)
    assert np.isnan(table["response_low"]).all()  # of five units not even their range covers 95 %
    wide = contender_table(result, level=0.9)
    assert (wide["response_low"] <= wide["response"]).all()
    assert (wide["response"] <= wide["response_high"]).all()
    above = (result["response"].mean("seed") > result["natural_best"]).mean("unit")
    np.testing.assert_allclose(table["above_natural"], above.transpose("contender", "budget"))
    clipped = (result["clipped"] >= result["clipped_low"]) & (result["clipped"] <= result["clipped_high"])
    np.testing.assert_allclose(table["inside"].sel(measure="clipped"), clipped.mean(("seed", "unit")))


def test_advantage_is_paired(result) -> None:
    itself = advantage(result, "lucid", "lucid", "150")
    assert float(itself["estimate"]) == 1
    mean = result["response"].mean("seed").sel(budget="150")
    a, b = mean.sel(contender="raw").values, mean.sel(contender="lucid").values
    assert float(advantage(result, "raw", "lucid", "150")["estimate"]) == pytest.approx(np.median((a / b)[b > 0]))
    with pytest.raises(InvalidArgumentError, match="contender: expected one of"):
        advantage(result, "raw", "none", "150")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_generators_go_where_the_subject_is(naturals) -> None:
    on_gpu = TorchSubject(network(), resolution=SIZE, device="cuda", name="small")
    found = compare(on_gpu, [0], ("dgn-am", "evolved"), budgets=(60,), naturals=naturals)
    again = subject().record(found["image"].values[:, 0, 0, 0].astype(np.float32) / 255)[:, 0]
    np.testing.assert_allclose(found["response"].values.ravel(), again, rtol=0.01, atol=1e-3)


# Folders of the first version -----------------------------------------------------------------------------------------

TWO = CONTENDERS[:2]


@pytest.fixture(scope="module")
def earlier(naturals, tmp_path_factory):
    """A comparison as the first version left it when it was interrupted: a list, and a file for each finished part."""
    folder, made = tmp_path_factory.mktemp("earlier") / "begun", {}
    with pytest.MonkeyPatch.context() as patch:
        seek = protocol.run_contender

        def seeking(subject, contender, budget, count, seed, columns):
            part = seek(subject, contender, budget, count, seed, columns)
            made[f"{contender.label}-{budget}-{seed}-{columns[0]}"] = part
            return part

        patch.setattr(protocol, "run_contender", seeking)
        expected = compare(subject(), [3, 1], TWO, budgets=(60,), naturals=naturals, save=folder.with_name("whole"))
    content = read_experiment(folder.with_name("whole"))
    own = ("subject", "units", "methods", "budgets", "count", "seeds", "naturals", "features")
    folder.mkdir()
    listed = {**{k: content[k] for k in own}, "generator_sha256": expected["generator_sha256"].values.tolist()}
    (folder / "comparison.json").write_text(json.dumps(listed))
    key = next(iter(made))
    (folder / f"{key}.state").write_bytes(pack_state(made[key]))
    return folder, key, expected


def take_over(folder, naturals):
    return compare(subject(), [3, 1], TWO, budgets=(60,), naturals=naturals, save=folder, exists="resume")


def test_finished_parts_of_the_first_version_are_taken_over(earlier, naturals, tmp_path, monkeypatch):
    begun, key, expected = earlier
    shutil.copytree(begun, tmp_path / "run")
    seek, sought = protocol.run_contender, []
    monkeypatch.setattr(
        protocol,
        "run_contender",
        lambda s, contender, *rest: sought.append(contender.label) or seek(s, contender, *rest),
    )
    found = take_over(tmp_path / "run", naturals)
    assert sought == ["lucid"]
    assert key.startswith("raw-")
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    xr.testing.assert_identical(take_over(tmp_path / "run", naturals).drop_attrs(), expected.drop_attrs())
    (tmp_path / "run" / "earlier" / f"{key}.state").write_bytes(b"changed")
    with pytest.raises(InvalidArgumentError, match="earlier: expected the earlier with which"):
        take_over(tmp_path / "run", naturals)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("comparison.json", b"", r"exists: cannot read .*comparison\.json"),
        ("comparison.json", b"{", r"exists: cannot read .*comparison\.json"),
        ("comparison.json", b"[1]", r"exists: cannot read .*comparison\.json"),
        ("comparison.json", b'{"units": [7]}', r"holds another comparison: units is \[7\] there, and \[3, 1\] here"),
        ("comparison.json", b'{"more": 1}', r"holds another comparison: more is 1 there, and None here"),
        ("raw-60-0-3.state", b"", r"raw-60-0-3\.state: not a part of a comparison"),
        ("raw-60-0-3.state", pack_state({"x": 1}), r"raw-60-0-3\.state: not a part of a comparison"),
        (
            "raw-60-0-3.state",
            pack_state({name: [0] for name in ("image", "failure", "curve_cost", "curve_response")}),
            r"raw-60-0-3\.state: expected the images of 2 units",
        ),
    ],
)
def test_damaged_folders_of_the_first_version(earlier, naturals, tmp_path, file, content, message):
    shutil.copytree(earlier[0], tmp_path / "run")
    assert (tmp_path / "run" / file).exists()
    (tmp_path / "run" / file).write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        take_over(tmp_path / "run", naturals)


def test_what_was_found_in_a_sentence():
    ratio = np.array([2.0, 3.5, np.nan])
    names = ["raw", "evolved", "lucid"]
    table = xr.Dataset({"ratio": ("contender", ratio)}, {"contender": names}).expand_dims(budget=["3000", "published"])
    said = reached_words(table.sel(budget="3000"), "3000", 2, 160)
    assert said == (
        "Responses ÷ that of the best of 160 natural images with a budget of 3,000, in the median of 2 units: "
        "evolved 3.5, raw 2."
    )
    assert "with the budgets that were published: evolved" in reached_words(
        table.sel(budget="published"), "published", 1, 9
    )
    nothing = table.sel(budget="3000") * np.nan
    assert reached_words(nothing, "3000", 1, 160).startswith("No best natural image was answered with more than 0")
