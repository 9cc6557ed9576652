"""The parts of an experiment that are named by text: each is explained, and given its default, here and nowhere else.

The commands take their options from these classes, as they take those of numbers from the settings of the protocols;
`closedloop.loop.experiment` takes from them what a file leaves out.
"""

from __future__ import annotations

from pathlib import Path

from closedloop.loop.settings import option, settings
from closedloop.recipes import BUNDLED, OPTIMIZER
from closedloop.recording.titles import OUTPUT


@settings
class SubjectPart:
    """The network or animal that is shown images."""

    subject: str = option(
        default="lite0",
        metavar="NAME",
        help="lite0, torchvision:NAME, timm:NAME, onnx:FILE, gabor, energy …; rig:zmq://HOST:PORT or rig:folder:DIR.",
    )
    layer: str = option(default=OUTPUT, metavar="NAME", help="Layer of a network; see: closedloop units.")
    weights: str | None = option(
        default=None, metavar="FILE", shown="pretrained", help="File with a network's weights, or 'random'."
    )
    engine: str = option(default="auto", help="What computes a network: auto, onnx, compile or eager.")
    device: str | None = option(default=None, shown="cpu", help="cpu, cuda …")
    noise: tuple[str, ...] = option(
        default=(),
        shown="none",
        metavar="KIND:NUMBER",
        help="Noise around the subject: poisson:20 (spikes), negative-binomial:20:0.1, gain:0.2, drift, lossy:0.05, "
        "repeated:5; a screen: displayed:mean=0.5:rms=0.2 …; several times for several, the first innermost.",
    )


@settings
class UnitPart:
    """Which units of a layer."""

    units: str = option(
        default="all", names=("--unit",), metavar="UNITS", help="Units: 7, 0-9, all, random:8, '(12,3,4)' …"
    )


@settings
class ObjectivePart:
    """What is maximized."""

    objective: str = option(
        default="unit(0)",
        metavar="EXPRESSION",
        help="What is maximized: 'unit(0) - 0.5*unit(1)', 'logprob(0) - 2*tv()', 'caption(\"a dog\")' …",
    )


@settings
class GeneratorPart:
    """What turns codes into images."""

    generator: str = option(
        default="native",
        metavar="NAME",
        help="native, fourier, cppn, pixels …; or with options: '{name: fourier, cutoff: 24}'.",
    )
    resolution: int | None = option(
        default=None, least=1, shown="the subject's", help="Height and width in pixels of the generated images."
    )


@settings
class PlacePart:
    """Where generated images stand."""

    at_field: Path | None = option(
        default=None,
        metavar="RUN",
        shown="the whole image",
        help="Run of 'closedloop map-field': generated images fill the receptive field of the unit that they are "
        "evolved for, two standard deviations to each side, on grey.",
    )


@settings
class OptimizerPart:
    """What proposes codes."""

    optimizer: str = option(
        default=OPTIMIZER,
        metavar="NAME",
        help="auto, sphere-cma, cma-diagonal, xdream-ga, nes …; or with options: '{name: cma, population: 40}'.",
    )


@settings
class ReferencePart:
    """What evolved images are compared with."""

    references: str = option(
        default=BUNDLED,
        metavar="FOLDER",
        help="Natural images to compare with: a folder, 'bundled' (160 photographs), or 'none'.",
    )


@settings
class FeaturesPart:
    """Which activations of a network tell images apart: what a twin reads, and a search of photographs."""

    features: str = option(
        default="lite0",
        metavar="NAME",
        help="Network whose activations are read: lite0, lite1, torchvision:NAME …; random for lite0 with random "
        "weights, a control; or with options: '{name: lite1, resolution: 128}'.",
    )
    layers: str = option(
        default="auto", metavar="NAMES", help="Its layers, with commas; auto: one for each size of map."
    )


@settings
class LookPart:
    """By what images are evolved while a network is trained, and which fixed images it is shown."""

    generator: str = option(
        default="fourier",
        metavar="NAME",
        help="What turns codes into images: fourier, pixels, cppn, native …; or with options: '{name: fourier, cutoff: "
        "3}'. It is matched to the network's size and colours.",
    )
    strategy: str = option(
        default=OPTIMIZER,
        metavar="NAME",
        help="What proposes codes: auto, sphere-cma, nes …; or with options: '{name: cma, population: 20}'.",
    )
    references: str = option(
        default="examples",
        metavar="FOLDER",
        help="The fixed set of images: examples of the training, a folder, or 'bundled' (160 photographs).",
    )


@settings
class StopPart:
    """When a thread ends before its budget is used up."""

    plateau: int | None = option(
        default=None, least=2, shown="never", help="Stop when the mean has not risen for this many generations."
    )
    target: float | None = option(default=None, shown="never", help="Stop when a generation's mean reaches this score.")
    stop: tuple[str, ...] = option(
        default=(),
        shown="none",
        metavar="RULE:NUMBER",
        help="Stop when sure, several times for several: futility:500:0.05:0.02 (500 more images raise the mean by "
        "more than 5 % with a probability below 0.02), beats:0.05 (above every reference, with this error over all "
        "looks), plateau:25, target:3.",
    )


@settings
class EachPart:
    """One evolution for each unit."""

    each: bool = option(
        default=False,
        help="Evolve an image for each of the units, side by side in one session: their images are made and shown "
        "together. Each optimizer has a seed of its own, spawned by the unit's name.",
    )


@settings
class ThreadsPart:
    """Several evolutions in one session."""

    thread: tuple[str, ...] = option(
        default=(),
        shown="one, main",
        metavar="'NAME: …'",
        help="An evolution by name, several times for several: 'a: optimizer=nes generator=fourier objective=unit(0)'; "
        "what it does not say is as the other options have it.",
    )


@settings
class FilePart:
    """The experiment as a file."""

    config: Path | None = option(
        default=None,
        metavar="FILE",
        shown="none",
        help="A whole experiment in YAML, such as the experiment.yaml of a run; options given besides take precedence.",
    )


@settings
class RunPart:
    """Where a run is recorded."""

    out: Path | None = option(
        default=None,
        names=("--save",),
        metavar="FOLDER",
        shown="runs/…",
        help="Folder of the run; it must be new, unless the run is to be gone on with.",
    )
    exists: str = option(
        default="fail",
        choices=("fail", "resume"),
        help="What to do if there is such a run in the folder --out: nothing, or to go on with it if it is of the same "
        "experiment.",
    )
