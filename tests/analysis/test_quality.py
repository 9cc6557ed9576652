"""Each caution is there when its cause is, and not otherwise."""

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis.quality import cautions
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.subjects import GaborSubject

GENERATIONS, POPULATION, REFERENCES = 40, 12, 10
FOURIER = '{"name": "fourier", "resolution": 16, "cutoff": 3, "shell": false}'
DIM = Fourier(16, cutoff=3).space.dim


def plateau(generation):
    """Rises for half of the evolution, then stays."""
    return 2 + 10 * np.minimum(generation / (GENERATIONS / 2), 1)


def evolution(course=plateau, *, noise=1.0, drift=0.0, retest=4, references=True, length=1.0, many=False, **attrs):
    """A recording of one thread on one unit, from the mean score of each generation."""
    rng = np.random.default_rng(0)
    rows = []
    for g in range(-1 if references else 0, GENERATIONS):
        shown = range(40 if many else REFERENCES) if g < 0 else [g % REFERENCES] * references
        rows += [("reference", "reference", g, f"natural-{i}", 4 + i * 0.1 + drift * max(g, 0)) for i in shown]
        rows += [("main", "evolved", g, f"main-{g}-{i}", course(g)) for i in range(POPULATION) if g >= 0]
    top = course(GENERATIONS - 1)
    for g in (GENERATIONS, GENERATIONS + 1):
        rows += [("main", "retest", g, "main-39-0", top)] * retest
        rows += [("reference", "retest", g, "natural-9", 4.9)] * (retest if references else 0)
    thread, kind, generation, name, mean = zip(*rows, strict=True)
    response = np.array(mean, dtype=float) + noise * rng.standard_normal(len(rows))
    codes = rng.standard_normal((len(rows), DIM)) * length
    codes[np.array(thread) == "reference"] = np.nan
    coords = {"thread": thread, "kind": kind, "generation": generation, "stimulus_id": name}
    return xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), response[:, None]),
            "score": ("presentation", np.where(np.array(thread) == "main", response, np.nan)),
            "latent_code": (("presentation", "latent"), codes),
        },
        {
            **{n: ("presentation", np.array(c, dtype=object if n != "generation" else int)) for n, c in coords.items()},
            "neuroid_id": ("neuroid", np.array(["unit.0"], dtype=object)),
            "evolution": ["main"], "objective": ("evolution", ["unit(0)"]), "subject": "made", "seed": 0,
            "generator_recipe": ("evolution", [FOURIER]),
        },
        {"finished": 1, "reason": "", **attrs},
    )  # fmt: skip


def kinds(recording, pictures=None, serious=None):
    return {c.kind for c in cautions(recording, pictures) if serious in (None, c.serious)}


def lose(recording, rows):
    lost = recording.copy()
    keep = ~np.isin(np.arange(recording.sizes["presentation"]), rows)
    for name in ("responses", "score"):
        lost[name] = recording[name].where(xr.DataArray(keep, dims="presentation"))
    return lost


def all_alike(codes=None, **measures):
    """An evolution whose images have the same measures, from its codes or others."""
    ds = evolution(lambda g: 0.0, noise=0.0)
    columns = {"tv": 2.0, "spectral_slope": -1.0, "high_frequency": 0.3, "clipped": 0.0, **measures}
    n = ds.sizes["presentation"]
    if codes is not None:
        ds["latent_code"] = xr.full_like(ds["latent_code"], codes)
    return ds.assign_coords({name: ("presentation", np.broadcast_to(v, n).copy()) for name, v in columns.items()})


def test_a_generator_that_ignores_its_codes():
    assert kinds(all_alike(), serious=True) == {"same-images"}


def test_a_flat_start_is_no_generator_that_ignores_its_codes():
    assert "same-images" not in kinds(all_alike(codes=0.0))
    assert "same-images" not in kinds(all_alike(tv=np.nan, spectral_slope=np.nan, high_frequency=np.nan))
    moving = np.random.default_rng(0).random(all_alike().sizes["presentation"])
    assert "same-images" not in kinds(all_alike(tv=moving))


def flat_picture(value):
    return lambda name: np.full((8, 8, 3), value, np.uint8)


def test_nothing_is_said_of_a_good_run():
    assert kinds(evolution(), flat_picture(128)) == set()


CAUSES = {
    "unfinished": lambda: evolution(finished=0),
    "drift": lambda: evolution(drift=-0.05),
    "dead-unit": lambda: evolution(lambda g: 0.0, noise=0.0),
    "not-improved": lambda: evolution(lambda g: 5.0),
    "not-converged": lambda: evolution(lambda g: 2 + 0.5 * g),
    "left-prior": lambda: evolution(length=3.0),
    "no-retest": lambda: evolution(retest=0),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_each_cause_gives_its_caution_alone(kind):
    assert kinds(CAUSES[kind](), serious=True) == {kind}


def test_a_ceiling():
    clipped = evolution()
    clipped["score"] = np.minimum(clipped["score"], 12.5)
    assert kinds(clipped) == {"ceiling"}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mean", [0.5, 0.2, 1, 3])
def test_few_spikes_are_no_ceiling_and_many_that_are_cut_off_are(mean):
    """Counts are often equal, the highest too: of 30 evolutions that rise to few spikes none is at a ceiling."""
    recording, rng = evolution(), np.random.default_rng(0)
    recording = recording.isel(presentation=(recording["generation"] < 12) | (recording["generation"] >= GENERATIONS))
    rises = np.where(recording["kind"] == "evolved", 0.3 + 0.7 * recording["generation"] / 11, np.nan)
    alarms, found = 0, 0
    for _ in range(30):
        for most, cut in ((mean, np.inf), (20, 15)):
            spikes = np.minimum(rng.poisson(most * np.nan_to_num(rises)), cut)
            told = "ceiling" in kinds(
                recording.assign(score=recording["score"] * 0 + np.where(rises > 0, spikes, np.nan))
            )
            alarms, found = alarms + (told and cut > most), found + (told and cut < most)
    assert (alarms, found) == (0, 30)


def test_a_saturated_image():
    assert kinds(evolution(), flat_picture(254)) == {"saturated"}
    assert kinds(evolution(), lambda name: None) == set()


def looking(**values):
    """A good run with columns of naturalness: references of 1 to 2, and what the evolved image has."""
    ds = evolution(many=True)
    natural = ds["thread"].values == "reference"
    spread = np.linspace(1, 2, int(natural.sum()))
    columns = {}
    for name, value in values.items():
        column = np.full(ds.sizes["presentation"], value, float)
        column[natural] = spread if name != "clipped" else 0.1 * spread
        columns[name] = ("presentation", column)
    return ds.assign_coords(columns)


def test_a_saturated_image_is_seen_in_the_recorded_numbers():
    assert kinds(looking(clipped=0.3)) == {"saturated"}
    assert kinds(looking(clipped=0.05), flat_picture(254)) == set()


def test_an_image_unlike_the_references_is_a_note():
    found = [c for c in cautions(looking(tv=1.3, spectral_slope=-3.0, natural_distance=2.5)) if c.kind == "unnatural"]
    assert len(found) == 1
    assert not found[0].serious
    assert found[0].text.startswith(
        "the evolved image lies outside 95 % of the references: spectral slope -3 (1.01 to "
    )
    assert ", distance to the nearest reference 2.5 (0 to 1.4" in found[0].text
    assert "total variation" not in found[0].text
    assert kinds(looking(tv=1.3, natural_distance=0.1)) == set()


def test_clipped_values_are_said_once():
    assert kinds(looking(clipped=0.22)) == {"unnatural"}
    assert kinds(looking(clipped=0.9)) == {"saturated"}


def test_lost_presentations_are_counted_by_thread():
    ds = evolution()
    rows = np.flatnonzero(ds["thread"].values == "main")[[3, 40]]
    (found,) = cautions(lose(ds, rows))
    assert found.kind == "lost"
    assert "2 of 546 presentations (0.4 %) gave no response: main 2" in found.text
    assert "2 images have no response at all" in found.cure


def test_a_lost_presentation_that_was_repeated_is_no_more_than_a_note():
    ds = evolution()
    again = np.flatnonzero(ds["kind"].values == "retest")[:1]
    (found,) = cautions(lose(ds, again))
    assert not found.serious
    assert "shown again" in found.cure


def test_a_deterministic_subject_is_a_note():
    ds = evolution()
    ds["responses"] = ds.responses.where(ds.kind != "retest", 12.0)
    assert kinds(ds, serious=False) == {"deterministic"}


def test_missing_references_are_a_note():
    assert kinds(evolution(references=False), serious=False) == {"no-reference"}


def test_long_codes_say_nothing_where_images_do_not_depend_on_their_length():
    shell = evolution(length=3.0).assign_coords(generator_recipe=("evolution", [FOURIER.replace("false", "true")]))
    assert kinds(shell) == set()


def test_a_generator_without_a_name_says_nothing_of_its_prior():
    unnamed = FOURIER.replace("fourier", "python-object")
    assert kinds(evolution(length=3.0).assign_coords(generator_recipe=("evolution", [unnamed]))) == set()


def test_a_run_that_has_just_begun_is_unfinished_and_no_more():
    ds = evolution(finished=0)
    assert kinds(ds.isel(presentation=np.flatnonzero(ds.generation.values < 0))) == {"unfinished"}


def test_recorded_images_have_no_evolution_to_look_at():
    ds = evolution().drop_dims("evolution")
    assert kinds(ds.isel(presentation=np.flatnonzero(ds.thread.values == "reference"))) == set()


def test_words_name_the_thread_the_numbers_and_the_cure():
    (found,) = cautions(CAUSES["not-converged"]())
    assert str(found).startswith("Thread main: the evolution was still rising when it ended: its last fifth gained ")
    assert str(found).endswith("More images would find a stronger stimulus.")
    (running,) = cautions(evolution(finished=0), run="runs/a b")
    assert str(running).endswith("Go on with: closedloop resume runs/a b")


@pytest.mark.parametrize("objective", ["layer()", "2.0*unit(0) - 1.0", "unit(0)*logprob(0)"])
def test_drift_is_looked_for_in_the_units_of_any_objective(objective):
    assert "drift" in kinds(evolution(drift=-0.05).assign_coords(objective=("evolution", [objective])))


def test_a_buffer_that_is_not_renewed():
    recording = evolution(many=True)
    own = recording.copy()
    block = recording["generation"].values
    places = np.concatenate([np.arange((block == g).sum()) for g in np.unique(block)])
    own["responses"] = recording["responses"].dims, recording["responses"].values[places]
    assert "stale" in kinds(own, serious=True)
    (text,) = (str(c) for c in cautions(own) if c.kind == "stale")
    assert "blocks of different images have exactly the same responses" in text
    assert "stale" not in kinds(own.assign_attrs(reason="imported from xdream"))
    assert "stale" not in kinds(recording)


def test_threads_that_share_a_generator_have_it_made_once(tmp_path, monkeypatch):
    """It was made anew for each thread, and more than once: minutes at the end of a session of many units."""
    run = tmp_path / "r"
    subject, generator = GaborSubject(resolution=16, count=4, seed=1), Fourier(16, 2)
    evolve(subject, generator, "isotropic", units="all", images=40, save=run, progress=False)
    made, init = [], Fourier.__init__
    monkeypatch.setattr(Fourier, "__init__", lambda self, *a, **o: made.append(1) or init(self, *a, **o))
    recording = open_recording(run)
    cautions(recording, Pictures(recording), str(run))
    assert len(made) <= 2
