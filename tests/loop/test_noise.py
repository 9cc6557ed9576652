"""Noise in words: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.loop.experiment import build_subject, parse_experiment
from closedloop.loop.noise import noise_word, parse_noise, unwrap, wrap
from closedloop.subjects import GaborSubject, Lossy, Poisson, load_subject


def test_numbers_stand_in_the_order_of_the_class_or_by_name():
    assert parse_noise(["poisson:20", "negative-binomial:30:0.2", "drift:change=-0.2:wander=0"], 3) == [
        {"name": "poisson", "seed": 3, "spikes": 20},
        {"name": "negative-binomial", "seed": 3, "spikes": 30, "gain_variance": 0.2},
        {"name": "drift", "seed": 3, "change": -0.2, "wander": 0},
    ]
    assert parse_noise(["repeated:4", "gain: 0.5 :true:seed=7", "lossy"], 0) == [
        {"name": "repeated", "n": 4},
        {"name": "gain", "seed": 7, "nu": 0.5, "shared": True},
        {"name": "lossy", "seed": 0},
    ]


def test_the_first_is_innermost():
    recipe = wrap({"name": "gabor", "resolution": 16}, parse_noise(["poisson:20:best=1.0", "lossy:0.1"], 2))
    subject = load_subject(**recipe)
    assert isinstance(subject, Lossy)
    assert isinstance(subject.subject, Poisson)
    assert isinstance(subject.subject.subject, GaborSubject)
    inner, noise = unwrap(recipe)
    assert inner == {"name": "gabor", "resolution": 16}
    assert [one["name"] for one in noise] == ["poisson", "lossy"]
    assert wrap(inner, noise) == recipe


def test_a_file_may_have_it_in_words():
    content = {"subject": "gabor", "noise": ["gain:0.5"], "generator": "fourier", "seed": 4}
    subject = build_subject(parse_experiment(content, "x"))
    assert subject.recipe is not None
    assert {k: subject.recipe[k] for k in ("name", "nu", "seed")} == {"name": "gain", "nu": 0.5, "seed": 4}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("poison:20", "no noise named 'poison'.*Did you mean 'poisson'.*Known: displayed, drift, gain, lossy"),
        ("gabor", "no noise named 'gabor'"),
        ("lossy:0.1:0.2", "'lossy:0.1:0.2' has too many numbers; lossy takes: rate"),
        ("gain:mu=1", "gain has no option 'mu'. Did you mean 'nu'"),
    ],
)
def test_wrong_words_are_explained(word, message):
    with pytest.raises((UnknownNameError, InvalidArgumentError), match=message):
        parse_noise([word], 0)


def test_a_wrong_number_is_the_noises_business():
    with pytest.raises(InvalidArgumentError, match="rate: expected a finite number from 0 to 1, got 2"):
        load_subject(**wrap({"name": "gabor"}, parse_noise(["lossy:2"], 0)))
    with pytest.raises(InvalidArgumentError, match=r"noise: expected words such as \['poisson:20', 'lossy:0.05'\]"):
        parse_noise("poisson:20", 0)


def test_a_word_of_a_wrapper_is_read_back():
    for word in ("poisson:20", "drift:change=-0.2", "gain:0.5:true:seed=7", "lossy:0.05", "repeated:4"):
        (found,) = parse_noise([word], 3)
        assert parse_noise([noise_word(found)], 0) == [found]
    assert (
        noise_word({"name": "poisson", "spikes": 20, "best": [1.0], "seed": 0}, ["best", "seed"]) == "poisson:spikes=20"
    )
