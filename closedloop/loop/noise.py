"""Noise around a subject in a few words: ``poisson:20``, ``gain:0.2``, ``drift:change=-0.2``, one for each wrapper.

A word is a wrapper's name with its numbers behind colons, in the order of its class or by their names. The first of
several words is the innermost: next to the subject.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from closedloop import recipes
from closedloop.errors import ClosedLoopError, InvalidArgumentError, UnknownNameError, closest
from closedloop.yaml_text import read_yaml_text


def parse_noise(words: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Returns the name and options of each wrapper, the innermost first.

    Args:
        words: Such as ``["poisson:20", "lossy:0.05"]``.
        seed: Of wrappers that name none.

    Raises:
        UnknownNameError: No such noise; the error lists the known ones.
        InvalidArgumentError: A word has too many numbers, or an option that the noise does not have.
    """
    if isinstance(words, str) or not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise InvalidArgumentError(f"noise: expected words such as ['poisson:20', 'lossy:0.05'], got {words!r:.80}.")
    return [_parse(word, seed) for word in words]


def _parse(word: str, seed: int) -> dict[str, Any]:
    name, *values = (part.strip() for part in word.split(":"))
    known = _options(name, word)
    # What is inside, what is measured, and the seed are given by name alone.
    places = [option for option in known if option not in ("subject", "best", "seed")]
    found: dict[str, Any] = {"name": name, **({"seed": seed} if "seed" in known else {})}
    for place, value in enumerate(values):
        option, sign, text = value.partition("=")
        if not sign and place >= len(places):
            raise InvalidArgumentError(f"noise: {word!r} has too many numbers; {name} takes: {', '.join(places)}.")
        option, text = (option.strip(), text) if sign else (places[place], value)
        if option not in known or option == "subject":
            raise InvalidArgumentError(f"noise: {word!r}: {name} has no option {option!r}.{closest(option, places)}")
        found[option] = read_yaml_text(text, f"noise: {word!r}")
    return found


def noise_word(wrapper: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """Returns the word of a wrapper, which `parse_noise` reads back.

    Args:
        wrapper: Its name and options, as `unwrap` has them.
        without: Options that are left out: ``best``, which is measured anew for other units, or ``seed``.
    """
    said = [f"{name}={json.dumps(value)}" for name, value in wrapper.items() if name not in ("name", *without)]
    return ":".join([str(wrapper["name"]), *said])  # JSON is YAML


def _options(name: str, word: str) -> Sequence[str]:
    """Returns the arguments of a wrapper's class, in their order."""
    if name in recipes.names("subjects"):
        arguments = tuple(inspect.signature(recipes.find("subjects", name)).parameters)
        if arguments[:1] == ("subject",):
            return arguments
    known = [other for other in recipes.names("subjects") if _is_wrapper(other)]
    raise UnknownNameError(
        f"noise: no noise named {name!r} (in {word!r}).{closest(name, known)} Known: {', '.join(known)}."
    )


def _is_wrapper(name: str) -> bool:
    """Returns whether a subject is one around another; False for one that cannot be imported here."""
    try:
        return recipes.takes("subjects", name, "subject")
    except ClosedLoopError:
        return False


def wrap(subject: Mapping[str, Any], noise: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the recipe of a subject with noise around it, the innermost first."""
    whole = dict(subject)
    for wrapper in noise:
        whole = {**wrapper, "subject": whole}
    return whole


def unwrap(subject: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the recipe of the subject inside, and those of the noise around it, the innermost first."""
    inner = dict(subject)
    noise: list[dict[str, Any]] = []
    while isinstance(inner.get("subject"), (str, Mapping)):
        named = inner.pop("subject")
        noise.insert(0, inner)
        inner = {"name": named} if isinstance(named, str) else dict(named)
    return inner, noise
