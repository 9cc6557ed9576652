"""Options come from definitions: what the help shows is what runs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import MISSING

import pytest
import typer
import yaml
from typer.main import get_command

from closedloop.cli import main
from closedloop.cli.app import COMMANDS, find_command
from closedloop.cli.evolve import merge
from closedloop.cli.options import Command, as_text
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import GeneratorPart, ObjectivePart, OptimizerPart, ReferencePart, SubjectPart
from closedloop.loop.settings import option, settings
from closedloop.protocols import PresentSettings


@settings
class Numbers:
    """Numbers."""

    many: int = option(default=3, least=1, help="How many.", names=("--count",))
    on: bool = option(default=True, help="Whether.")
    words: tuple[str, ...] = option(default=(), shown="none", help="Some words.")
    inner: int = option(default=1, help="Not asked.", hidden=True)


def run(command, *words):
    app = typer.Typer(add_completion=False)
    app.command("it")(command.function())
    get_command(app)(list(words), standalone_mode=False)


def test_only_what_was_given_reaches_the_function():
    seen = []
    command = Command(lambda given: seen.append(given), (Numbers,))
    run(command)
    run(command, "--count", "5", "--no-on", "--words", "a b", "--words", "c")
    assert seen == [{}, {"many": 5, "on": False, "words": ["a b", "c"]}]
    assert "inner" not in command.fields()


def test_a_commands_own_arguments_stand_beside_its_options():
    seen = []

    def own(path: str, given: dict[str, object], depth: int = 2) -> None:
        """Do it."""
        seen.append((path, depth, given))

    command = Command(own, (Numbers,), defaults={"many": 7})
    run(command, "here", "--depth", "1")
    assert seen == [("here", 1, {})]
    assert command.help == "Do it."
    assert command.shown(command.fields()["many"][0]) == "7"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_and_shows_its_default(name):
    command = find_command(name)
    app = typer.Typer(add_completion=False)
    app.command(name)(command.function())
    options = {p.name: p for p in get_command(app).params}
    for field, (entry, _) in command.fields().items():
        shown, default = options[field].show_default, command.defaults.get(field, entry.default)
        assert options[field].default is None  # only what was given is handed on
        assert len(options[field].help) > 3
        assert shown
        if field not in command.says:
            assert default is not MISSING
            assert shown in (as_text(default), entry.metadata["shown"])


def test_a_bare_evolution_has_the_defaults_that_are_shown():
    found = merge(None, {})
    evolve = find_command("evolve")
    for name, (entry, _) in evolve.fields().items():
        if name in found.settings:
            assert evolve.shown(entry) in (as_text(found.settings[name]), entry.metadata["shown"])
    assert found.settings["images"] == 4000
    assert found.subject.model_dump() == {"name": SubjectPart.subject, "units": evolve.defaults["units"]}
    thread = found.threads[0]
    assert (thread.generator.name, thread.optimizer.name) == (GeneratorPart.generator, OptimizerPart.optimizer)
    assert (thread.objective, found.references) == (ObjectivePart.objective, ReferencePart.references)


def test_recorded_images_have_the_defaults_that_are_shown(tmp_path):
    main(["record", "--subject", "gabor", "--out", str(tmp_path / "run")])
    content = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    for name, entry in PresentSettings.__dataclass_fields__.items():
        assert content[name] == (32 if name == "resolution" else entry.default)  # the model neuron's own


def test_defaults_that_belong_to_others_are_theirs():
    from closedloop.analysis import Design, pilot_models, plan
    from closedloop.gradients.allocation import Allocator
    from closedloop.gradients.attribution import attribute
    from closedloop.images.sets import folder_images
    from closedloop.optimizers import Auto
    from closedloop.optimizers.elites import MapElites
    from closedloop.protocols import landscape
    from closedloop.references import __path__ as references
    from closedloop.subjects import TorchSubject

    def default(function, name):
        return inspect.signature(function).parameters[name].default

    assert default(TorchSubject, "layer") == SubjectPart.layer
    assert default(TorchSubject, "engine") == SubjectPart.engine
    assert default(TorchSubject, "units") == find_command("record").fields()["units"][0].default
    assert str(default(MapElites, "children")) == find_command("elites").fields()["children"][0].metadata["shown"]
    planes = ",".join("-".join(pair) for pair in default(landscape, "planes"))
    assert find_command("landscape").fields()["planes"][0].metadata["shown"] == planes
    shown = find_command("attribute").fields()
    assert {name: shown[name][0].default for name in ("seed", "steps")} == {
        name: default(attribute, name) for name in ("seed", "steps")
    }
    shown = find_command("plan").fields()
    for name, function in {"success": plan, "wanted": plan, "alpha": plan, "resamples": pilot_models}.items():
        assert shown[name][0].default == default(function, name)
    for name in ("per_generation", "references", "interleave"):
        assert shown[name][0].default == default(Design, name)
    assert default(Design, "per_generation") == default(Auto, "population")
    assert default(Design, "references") == len(folder_images(references[0])[0])
    shown = find_command("lca").fields()
    for name in ("rule", "tolerance", "batch_norm"):
        assert shown[name][0].default == default(Allocator, name)


@pytest.mark.parametrize(
    ("words", "heavy"),
    [(["--help"], ["torch", "xarray", "scipy", "pandas"]), (["evolve", "--help"], ["torch", "xarray", "scipy"]),
     (["ascend", "--help"], ["torch"]), (["--version"], ["torch", "xarray", "scipy"])],
)  # fmt: skip
def test_help_imports_little(words, heavy):
    code = (
        "import sys, json\nfrom closedloop.cli import main\nmain(json.loads(sys.argv[1]))\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True, check=True)
    assert not set(heavy) & set(json.loads(done.stderr.splitlines()[-1]))


def test_a_session_is_ready_before_what_analysis_takes_is_imported():
    code = (
        "import sys, closedloop.cli.evolve, closedloop.loop.experiment, closedloop.loop.session\n"
        "print(sorted({'scipy.stats', 'scipy.optimize', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_units_have_one_language_and_two_names():
    named = [options["units"][0] for name in COMMANDS if "units" in (options := find_command(name).fields())]
    assert len(named) > 15
    assert {entry.metadata["names"] for entry in named} == {("--unit",)}


def test_a_subject_without_options_is_said_to_have_none(monkeypatch):
    monkeypatch.setattr("closedloop.recipes.find", lambda kind, name: lambda: None)
    with pytest.raises(InvalidArgumentError, match=r"leave --layer out\. It has no options of its own\."):
        merge(None, {"subject": "bare", "layer": "x"})


def test_options_with_options_are_yaml():
    found = merge(None, {"generator": "{name: fourier, cutoff: 24}"})
    assert found.threads[0].generator.options == {"cutoff": 24}
    with pytest.raises(InvalidArgumentError, match=r"expected a name, or '\{name: NAME, OPTION: VALUE}'"):
        merge(None, {"generator": "{cutoff: 24}"})
