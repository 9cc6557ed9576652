import numpy as np
import pytest
import xarray as xr
from scipy import stats

from closedloop.analysis import training_change, training_observations
from closedloop.errors import InvalidArgumentError


def shares(seed, together=False):
    """Two hundred steps of two layers with a neuron each, of which 6, 3 and 1 of ten parameters help, hurt, rest."""
    rng = np.random.default_rng(seed)
    by_layer = rng.standard_normal((200, 2))
    if together:
        by_layer[:, 1] = by_layer[:, 0]
    change = by_layer.sum(1)
    count = {"helped": 6, "hurt": 3, "still": 1}
    return xr.Dataset(
        {
            "by_layer": (("step", "layer"), by_layer),
            "by_neuron": (("step", "neuron"), by_layer),
            "change": ("step", change),
            "residual": ("step", 0.01 * change),
            **{name: (("step", "layer"), np.full((200, 2), n)) for name, n in count.items()},
        },
        {"layer": ["a", "b"], "step": np.arange(200)},
        {"seed": seed},
    )


def test_what_is_known_is_observed():
    found = training_observations([shares(seed) for seed in range(5)]).set_index(observation="observation")
    mean = found["mean"]
    assert float(mean.sel(observation="helping")) == pytest.approx(0.6)
    assert float(mean.sel(observation="helping_of_moving")) == pytest.approx(6 / 9)
    assert float(mean.sel(observation="sign_changes")) == pytest.approx(0.5, abs=0.05)  # white noise
    assert float(mean.sel(observation="missed")) == pytest.approx(0.01)
    assert float(mean.sel(observation="synchrony")) == pytest.approx(1, abs=0.3)
    assert float(mean.sel(observation="synchrony_p")) > 0.01
    assert found["seed"].values.tolist() == [0, 1, 2, 3, 4]
    assert (found["low"] <= found["mean"]).sel(observation="sign_changes")
    same = training_observations([shares(seed, together=True) for seed in range(2)])
    assert float(same["mean"][3]) > 3
    assert float(same["mean"][4]) < 1e-4  # Fisher's, of both seeds


def test_no_interval_reaches_where_nothing_can_be():
    found = training_observations([shares(seed, together=seed == 1) for seed in range(2)])
    assert float(found["low"][3]) == 0  # two ratios, 1 and 4: Student's interval alone would go far below 0
    assert float(found["high"][3]) > 10
    assert ((found["low"][:3] >= 0) & (found["high"][:3] <= 1)).sum() == 1  # the shares that do not vary have none


def ended(seed, loss, accuracy):
    return xr.Dataset(attrs={"seed": seed, "loss_train": loss, "accuracy_validation": accuracy})


def test_a_change_of_training_is_judged_over_pairs():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(6)
    plain = [ended(i, 1 + noise[i], 0.5) for i in range(6)]
    changed = [ended(i, 1.2 + noise[i] + 0.01 * (i % 2), 0.5) for i in range(6)]
    found = training_change(plain, changed)
    assert found["measure"].values.tolist() == ["loss_train", "accuracy_validation"]
    np.testing.assert_allclose(found["difference"], [0.205, 0])
    assert float(found["low"][0]) > 0.19
    assert float(found["p"][0]) == pytest.approx(
        stats.ttest_rel([r.attrs["loss_train"] for r in changed], [r.attrs["loss_train"] for r in plain]).pvalue
    )
    assert np.isnan(found["p"][1])  # all alike: no test can be made
    raised = [ended(i, 0.7, 0.6 + i / 10) for i in range(6)], [ended(i, 0.7, 0.7 + i / 10) for i in range(6)]
    found = training_change(*raised).set_index(measure="measure").sel(measure="accuracy_validation")
    assert float(found["difference"]) == pytest.approx(0.1)  # by all alike, but for rounding
    assert np.isnan([found[name] for name in ("low", "high", "p", "p_holm")]).all()


def test_other_input_is_named():
    with pytest.raises(InvalidArgumentError, match="allocations: expected at least one run"):
        training_observations([])
    with pytest.raises(
        InvalidArgumentError, match=r"changed: expected at least two runs with the seeds of plain, \[0, 1\]"
    ):
        training_change([ended(0, 1, 1), ended(1, 1, 1)], [ended(0, 1, 1), ended(2, 1, 1)])
    with pytest.raises(InvalidArgumentError, match="plain: expected what"):
        training_change(
            [xr.Dataset(attrs={"seed": i}) for i in (0, 1)], [xr.Dataset(attrs={"seed": i}) for i in (0, 1)]
        )
