"""The commands. Heavy imports happen inside them, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.main import get_command

from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.optimizers.loading import DEFAULT

app = typer.Typer(
    name="closedloop",
    help="What does this neuron want to see? Evolve images that excite a unit of a network, without a gradient.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SubjectOption = Annotated[
    str | None,
    typer.Option(help="lite0, torchvision:NAME, timm:NAME, onnx:FILE, gabor, energy …", show_default="lite0"),
]
LayerOption = Annotated[
    str | None, typer.Option(help="Layer, or 'output'; see: closedloop units.", show_default="output")
]
WeightsOption = Annotated[str | None, typer.Option(help="File with weights, or 'random'.", show_default="pretrained")]
EngineOption = Annotated[str | None, typer.Option(help="auto, onnx, compile or eager.", show_default="auto")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda …", show_default="cpu")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the whole experiment.", show_default="0")]
TimeoutOption = Annotated[
    float | None, typer.Option(help="Seconds the subject may take for one block.", show_default="no limit")
]
RetriesOption = Annotated[
    int | None, typer.Option(help="How often a lost presentation is shown again.", show_default="2")
]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]


@app.callback()
def root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """What does this neuron want to see? Evolve images that excite a unit of a network, without a gradient."""


@app.command()
def evolve(
    config: Annotated[
        Path | None, typer.Option(help="A whole experiment in YAML; options given besides it take precedence.")
    ] = None,
    subject: SubjectOption = None,
    layer: LayerOption = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit to excite: 7, '(12,3,4)' …; several with --objective.", show_default="971")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="What to maximize: 'unit(0) - 0.5*unit(1)', 'logprob(0) - 2*tv()', 'caption(\"a dog\")' …",
            show_default="unit(0)",
        ),
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="native, fourier, cppn, pixels …", show_default="native")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="auto, sphere-cma, cma-diagonal, xdream-ga, nes …", show_default=DEFAULT)
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels of the generated images.", show_default="the subject's")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Budget of evolved images.", show_default="4000")] = None,
    repeats: Annotated[int | None, typer.Option(help="Presentations of each image.", show_default="1")] = None,
    references: Annotated[
        str | None, typer.Option(help="Folder of natural images, or 'none'.", show_default="bundled photographs")
    ] = None,
    interleave: Annotated[int | None, typer.Option(help="References in each generation.", show_default="2")] = None,
    retest_candidates: Annotated[
        int | None, typer.Option(help="Best images that are re-tested; 0 for none.", show_default="5")
    ] = None,
    retest_repeats: Annotated[int | None, typer.Option(help="Presentations in the re-test.", show_default="10")] = None,
    plateau: Annotated[
        int | None,
        typer.Option(help="Stop when the mean has not risen for this many generations.", show_default="never"),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Stop when a generation's mean reaches this score.", show_default="never")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Images to keep as files: best (of each generation), all, none.", show_default="best"),
    ] = None,
    seed: SeedOption = None,
    retries: RetriesOption = None,
    timeout_s: TimeoutOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--save", help="Folder of the run; must be new.", show_default="runs/…")
    ] = None,
) -> None:
    """Evolve an image for a unit, and compare it with natural images."""
    from closedloop.cli.evolve import run_evolution

    run_evolution(config, out, _given(locals(), "config", "out"))


@app.command()
def ascend(
    config: Annotated[
        Path | None, typer.Option(help="The experiment.yaml of an ascent; options given besides it take precedence.")
    ] = None,
    subject: SubjectOption = None,
    layer: LayerOption = None,
    unit: Annotated[
        str | None, typer.Option(help="Units to excite, each by itself: 292, 7,8 or 0-9 …", show_default="971")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="raw, yosinski-1 … yosinski-4, tv, mei, deepdream, lucid, maco, accentuate, dgn-am, ppgn, adam.",
            show_default="lucid",
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="What to climb instead of a unit: 'unit(0) - 0.5*unit(1)' …")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="native, fourier, pixels …", show_default="the method's own")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels of the generator's images.", show_default="the subject's")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Image file to begin at.", show_default="the method's own")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps.", show_default="as published")] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps from one presentation to the next.", show_default="steps / 50")
    ] = None,
    copies: Annotated[int | None, typer.Option(help="Images for each unit, side by side.", show_default="1")] = None,
    references: Annotated[
        str | None, typer.Option(help="Natural images to compare with: a folder, or 'bundled'.", show_default="none")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the method, such as rate=0.1.")
    ] = None,
    seed: SeedOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--save", help="Folder of the run; must be new.", show_default="runs/…")
    ] = None,
) -> None:
    """Climb by gradients to an image for one or more units, with one of the field's methods."""
    from closedloop.cli.ascend import run_ascent
    from closedloop.cli.console import free_folder

    given = _given(locals(), "out", "set_", "free_folder")
    if set_:
        given["set"] = set_
    names = (given.get("subject", "lite0"), layer or "output", unit or "", given.get("method", "lucid"))
    stem = "-".join(name for name in names if name) if config is None else f"{config.resolve().parent.name}-again"
    run_ascent(free_folder(stem) if out is None else out, given)


@app.command()
def compare(
    subject: SubjectOption = None,
    layer: LayerOption = None,
    unit: Annotated[
        str | None, typer.Option(help="Units, each by itself: 292, 7,8, 0-9, random:8 …", show_default="971")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods of ascend, and 'evolved'; separated by commas.",
            show_default="raw,yosinski-4,lucid,maco,dgn-am,ppgn,evolved",
        ),
    ] = None,
    budgets: Annotated[
        str | None, typer.Option(help="Numbers, and 'published'; separated by commas.", show_default="published")
    ] = None,
    count: Annotated[
        str | None,
        typer.Option(
            help="forward_equivalents (a backward pass counts 2) or forwards.", show_default="forward_equivalents"
        ),
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="Folder of natural images to compare with.", show_default="bundled photographs")
    ] = None,
    seed: SeedOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--save", help="Folder; one of the same comparison goes on.", show_default="runs/…"),
    ] = None,
) -> None:
    """Find what units want to see by several methods at equal budgets, and compare them with natural images."""
    from closedloop.cli.compare import run_comparison
    from closedloop.cli.console import free_folder

    given = _given(locals(), "out", "free_folder", "run_comparison")
    names = (given.get("subject", "lite0"), layer or "output", unit or "", "compared")
    run_comparison(free_folder("-".join(name for name in names if name)) if out is None else out, given)


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a run that was killed or failed; the result is that of an uninterrupted run."""
    from closedloop.cli.resume import run_resume

    run_resume(run)


@app.command()
def units(
    subject: SubjectOption = None,
    layer: Annotated[str | None, typer.Option(help="Only this layer, with its units' names.")] = None,
    depth: Annotated[int, typer.Option(help="Levels of the network's modules to list; 0 for all.")] = 2,
    weights: WeightsOption = None,
) -> None:
    """List a network's layers: shape, number of units, receptive field."""
    from closedloop.cli.units import list_units

    list_units(subject or "lite0", layer, depth, {} if weights is None else {"weights": weights})


@app.command()
def record(
    images: Annotated[Path | None, typer.Option(help="Folder of images.", show_default="bundled photographs")] = None,
    subject: SubjectOption = None,
    layer: LayerOption = None,
    units: Annotated[
        str | None, typer.Option(help="Units: 7, 0-9, all, random:50, '(12,3,4)' …", show_default="all")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Presentations of each image.")] = 1,
    seed: SeedOption = None,
    retries: RetriesOption = None,
    timeout_s: TimeoutOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--save", help="Folder of the run; must be new.", show_default="runs/…")
    ] = None,
) -> None:
    """Record responses to a folder of images."""
    from closedloop.cli.record import run_record

    run_record(images, out, _given(locals(), "images", "out"))


@app.command()
def show(
    run: RunArgument,
    figure: Annotated[
        Path | None, typer.Option(help="Where to write the figure (.png, .pdf, .svg).", show_default="RUN/summary.png")
    ] = None,
) -> None:
    """Show what a run found: the table, and the figure."""
    from closedloop.cli.show import show_run

    show_run(run, figure)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of one or more runs.")],
    out: Annotated[Path | None, typer.Option(help="The file, ending in .html.", show_default="RUN.html")] = None,
) -> None:
    """Write what was found into one HTML file, with figures, images, warnings, and how to repeat it."""
    from closedloop.cli.report import report_runs

    report_runs(runs, out)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a .nc or .nwb file of one.")],
    to: Annotated[str, typer.Option(help="netcdf, nwb, brainio, csv, png, gif or mp4.")],
    out: Annotated[
        Path | None, typer.Option(help="File or folder to write; must be new.", show_default="named after the run")
    ] = None,
    which: Annotated[
        str | None, typer.Option(help="png: best (of each generation) or all.", show_default="best")
    ] = None,
    images: Annotated[bool | None, typer.Option(help="nwb: write the images too.", show_default="images")] = None,
    experimenter: Annotated[str | None, typer.Option(help="nwb: 'Last name, first name'.")] = None,
    institution: Annotated[str | None, typer.Option(help="nwb: where it was done.")] = None,
    identifier: Annotated[str | None, typer.Option(help="brainio: of the assembly, 'lab.AuthorYear'.")] = None,
    references: Annotated[
        Path | None, typer.Option(help="Where the reference images are.", show_default="in the run")
    ] = None,
) -> None:
    """Write a run in another format of the field."""
    from closedloop.cli.exchange import run_export

    run_export(run, to, out, _given(locals(), "run", "to", "out"))


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Result folder of another system.")],
    system: Annotated[str, typer.Option("--from", help="xdream or p-xdream.")],
    out: Annotated[Path, typer.Option(help="Folder of the run to make; must be new.")],
) -> None:
    """Make a run of what another system recorded."""
    from closedloop.cli.exchange import run_import

    run_import(folder, system, out)


@app.command()
def analyze(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; evolutions of several are named RUN/THREAD.")],
    what: Annotated[
        str,
        typer.Option(
            help="trajectory, success, success_rate, evolved_vs_reference, winners_curse, best_of_k, generations_to, "
            "images_to, reference_drift, fano_factor, split_half, noise_ceiling, selectivity, sparseness, "
            "tuning_curve, signal_correlation, noise_correlation, psth, cross_driving, preference_similarity, "
            "code_geometry, latent_regression, fit_kent."
        ),
    ] = "success",
    thread: Annotated[str | None, typer.Option(help="Only this evolution.", show_default="all")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file.", show_default="no file")] = None,
) -> None:
    """Analyze runs: one of the functions of closedloop.analysis as a table."""
    from closedloop.cli.analyze import analyze_runs

    analyze_runs(runs, what, thread, csv)


@app.command()
def attribute(
    images: Annotated[
        Path | None, typer.Option(help="An image, or a folder of up to 24.", show_default="bundled photographs")
    ] = None,
    subject: SubjectOption = None,
    layer: LayerOption = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit: 7, '(12,3,4)' …; several with --objective.", show_default="971")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="What is attributed.", show_default="unit(0)")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="gradient, deconvnet, guided-backprop or integrated-gradients.", show_default="guided-backprop"
        ),
    ] = None,
    filter: Annotated[str, typer.Option(help="raw, gray, norm, normblur, several with commas, or all.")] = "all",  # noqa: A002
    seed: Annotated[
        str | None, typer.Option(help="Backward pass begins with: one, or activation.", show_default="one")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Points of integrated gradients.", show_default="64")] = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    out: Annotated[Path, typer.Option("--out", help="The figure (.png, .pdf, .svg).")] = Path("attribution.png"),
) -> None:
    """Show which pixels of images a unit's response comes from."""
    from closedloop.cli.attribute import run_attribution

    run_attribution(images, out, filter, _given(locals(), "images", "out", "filter"))


@app.command()
def elites(
    subject: SubjectOption = None,
    layer: LayerOption = None,
    generator: Annotated[str | None, typer.Option(help="cppn, pixels, native …", show_default="cppn")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels of the generated images.", show_default="the generator's")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Budget of images.", show_default="20000")] = None,
    children: Annotated[int | None, typer.Option(help="Images in a generation.", show_default="200")] = None,
    seed: SeedOption = None,
    retries: RetriesOption = None,
    timeout_s: TimeoutOption = None,
    weights: WeightsOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--save", help="Folder of the run; must be new.", show_default="runs/…")
    ] = None,
) -> None:
    """Evolve an image for each class of a network at once (fooling images, MAP-Elites)."""
    from closedloop.cli.elites import run_elites

    run_elites(out, _given(locals(), "out"))


@app.command("train-generator")
def train_generator(
    images: Annotated[Path, typer.Option(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="File of weights to write, .safetensors; must be new.")],
    steps: Annotated[int | None, typer.Option(help="Updates of the weights.", show_default="8000")] = None,
    batch: Annotated[int | None, typer.Option(help="Photographs in a step.", show_default="16")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels of the images, a multiple of 32.", show_default="128")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights of a native generator to begin with.", show_default="random")
    ] = None,
    draws_start: Annotated[
        int | None,
        typer.Option(help="Step at which draws from the prior come in; early with --start.", show_default="2000"),
    ] = None,
    features: Annotated[
        str, typer.Option(help="Network of the feature losses, lite1 or lite2; never the subject of the study.")
    ] = "lite1",
    device: Annotated[str, typer.Option(help="cpu, cuda …")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Seed of the training.", show_default="0")] = None,
) -> None:
    """Train a native generator on your own photographs; the same command goes on after a crash."""
    from closedloop.cli.train_generator import run_training

    run_training(
        images, out, start, features, device,
        _given(locals(), "images", "out", "start", "features", "device"),
    )  # fmt: skip


def _given(values: dict[str, Any], *without: str) -> dict[str, Any]:
    """The options that were given."""
    return {k: v for k, v in values.items() if v is not None and k not in without and not k.startswith("run_")}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Errors that a user can cause end it with status 2 and one message, without a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    warnings.showwarning = lambda message, *_rest, **_more: stderr.print(
        f"Warning: {message}", style="yellow", markup=False
    )
    try:
        get_command(app)(words, prog_name="closedloop")
    except SystemExit as end:
        if end.code:
            raise
    except (ClosedLoopError, InvalidArgumentError) as error:
        if debug:
            raise
        stderr.print(f"Error: {error}", style="red", markup=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        stderr.print("Interrupted. Every finished generation is safe: closedloop resume RUN", markup=False)
        raise SystemExit(130) from None
