"""Gradient ascent beside Lucent and Horama: the response reached for the same passes, and seconds for an image.

For units of lite0 drawn by a seed (outputs, and channels of hidden layers at their central position), ours and the
peer's take turns on the same unit, with the same number of threads, image size and forward-equivalents (a backward pass
counts 2; our presentations are paid from the budget):

* ``lucent``: ``ascend(method="lucid")`` and ``lucent.optvis.render.render_vis`` with its default parametrization,
  transforms and optimizer, ``--steps`` pictures, ``--size`` pixels (Lucent's own default is 128, which it enlarges).
* ``horama_maco``: ``ascend(method="maco")`` and ``horama.maco``, ``--steps`` / 6 steps of 6 crops, ``--canvas`` pixels.
  Ours has crops of the sides that Horama's have in truth, 0.25 to 0.3 of the image all the way. Both hold the spectrum
  of the bundled photographs, where Horama would download its own.
* ``horama_fourier``: ``ascend(method="lucid")`` and ``horama.fourier``, ``--steps`` / 6 steps of 6 pictures. Horama's
  image has ``--canvas`` pixels (its own default is 1280), ours the subject's 224 as by default, unless ``--ours`` says
  otherwise.

All images are measured alike: rounded to 8 bits, whole, resized to the subject's resolution, the clean response by
`TorchSubject.record`. The peers get the network with frozen weights and the normalization it was trained with, in a
process of their own that loads the same weights; Horama's range is the network's, (-1, 1). They are installed into
``--peers`` (default: a folder that is deleted), never into this environment. Where torchvision lacks its compiled
operators, Horama's ``roi_align`` is computed by torch's ``grid_sample``, checked against torchvision's own formula.

Seconds are those of a whole call; under a load of others' the processor's seconds say more. Ratios are medians over
pairs with a 95 % interval between order statistics; of responses over the pairs in which both are above 0, while
``wins`` counts all. ``memory``: growth of the peak resident size by 16 units of "raw" side by side, and by one image of
Lucent's. Pairs that are finished lie in ``--out`` and are not computed again.

    python benchmarks/gradients.py [--quick] [--peers DIR] [--steps 512] [--outputs 5] [--hidden 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from closedloop.analysis import median_interval
from closedloop.generators import load_generator
from closedloop.gradients.methods import LUCID_CONTRAST
from closedloop.images.eight_bit import quantize
from closedloop.images.resizing import resize_images
from closedloop.networks.torchvision import import_torchvision
from closedloop.protocols import ascend
from closedloop.subjects import load_subject

#: The peers, as published; Lucent does not run with a later kornia.
PEERS = ("horama==0.3.0", "torch-lucent==0.1.8", "kornia==0.4.1")
#: What they import besides torch, torchvision, numpy, matplotlib, scikit-learn and Pillow.
NEEDED = ("ipython", "decorator", "einops", "future", "tqdm")
LAYERS = ("blocks.1", "blocks.3", "blocks.5")
ROWS = ("lucent", "horama_maco", "horama_fourier")
#: Horama's crops in a step, their mean side as a share of the image's, and pictures of ours from one presentation to
#: the next.
CROPS, SIDE, PRESENT = 6, 0.275, 10
RATIOS = {"response": "response", "seconds": "seconds", "cpu": "cpu_s"}
SIDES = ("ours", "peer")
SPECTRUM = "spectrum_decorrelated.npy"
MEMORY_UNITS = 16


# The peers' process ---------------------------------------------------------------------------------------------------


def install(folder: Path) -> None:
    """Puts the peers into a folder, unless they are there."""
    if (folder / "lucent").is_dir() and (folder / "horama").is_dir() and (folder / "IPython").is_dir():
        return
    if importlib.util.find_spec("pip") is None:
        sys.exit("peers: pip is missing here; python -m ensurepip, or fill a folder elsewhere and pass --peers DIR.")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    for wanted in (["--no-deps", *PEERS], NEEDED):
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
        if done.returncode:
            sys.exit(
                f"peers: pip could not fetch {' '.join(wanted)}. Offline? Fill a folder where there is a network "
                f"(pip install --target DIR --no-deps {' '.join(PEERS)}; pip install --target DIR {' '.join(NEEDED)}) "
                f"and pass --peers DIR.\n{done.stderr.strip()[-500:]}"
            )


class Peers:
    """The process of the peers: a task in, an image out.

    Args:
        folder: Where they are installed, and where the process works.
        threads: Of torch.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.scratch = str(folder / f"image-{os.getpid()}.npy")
        self._log = (folder / f"log-{os.getpid()}.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--work-for", str(threads)], cwd=folder, text=True,
            env={**os.environ, "PYTHONPATH": str(folder.resolve())}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log,
        )  # fmt: skip

    def ask(self, **task: Any) -> dict[str, Any]:
        """What the process says to a task."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"peers: their process ended.\n{self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()
        self._log.close()


def work(threads: int) -> None:
    """The peers' process: reads tasks from standard input, one a line, and answers each with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peers print is no answer
    torch.set_num_threads(threads)
    import_torchvision()
    model = load_subject("lite0", units=[0], engine="eager").model.requires_grad_(False)
    draw = {"lucent": lucent, "horama_maco": horama_maco, "horama_fourier": horama_fourier}
    for line in sys.stdin:
        task = json.loads(line)
        torch.manual_seed(task["seed"])
        np.random.seed(task["seed"])  # noqa: NPY002 - the state that Lucent draws from
        own = copy.deepcopy(model)  # Lucent's hooks stay on a network
        before = resident()
        with clocked() as spent:
            image = draw[task["row"]](own, task)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        np.save(task["to"], image)
        answers.write(json.dumps({**spent, "grown": grown, "notes": NOTES}) + "\n")
        answers.flush()


#: What a reader must know of how the peers were run.
NOTES: list[str] = []


def lucent(model: torch.nn.Module, task: dict[str, Any]) -> np.ndarray:
    """Lucent's image ``(3, h, w)`` in [0, 1], by its defaults."""
    from lucent.optvis import objectives, param, render, transform

    layer, channel = task["layer"], task["channel"]
    wanted = (
        objectives.channel("labels", channel)
        if layer == "output"
        else objectives.neuron(layer.replace(".", "_"), channel)
    )
    drawn = render.render_vis(
        model, wanted, lambda: param.image(task["size"]), thresholds=(task["steps"],), preprocess=False,
        transforms=[*transform.standard_transforms, lambda x: (x - 0.5) / 0.5], progress=False, show_image=False,
    )  # fmt: skip
    return np.asarray(drawn[0][0].transpose(2, 0, 1))


def horama_maco(model: torch.nn.Module, task: dict[str, Any]) -> np.ndarray:
    """Horama's MACO image ``(3, h, w)`` in [0, 1]."""
    return _horama("maco", model, task)


def horama_fourier(model: torch.nn.Module, task: dict[str, Any]) -> np.ndarray:
    """Horama's Fourier image ``(3, h, w)`` in [0, 1]."""
    return _horama("fourier", model, task)


def _horama(method: str, model: torch.nn.Module, task: dict[str, Any]) -> np.ndarray:
    import horama

    repair_roi_align()
    with activation(model, task["layer"], task["channel"]) as objective:
        image, _ = getattr(horama, method)(
            objective, total_steps=task["steps"], image_size=task["size"], crops_per_iteration=CROPS,
            values_range=(-1, 1), device="cpu",
        )  # fmt: skip
    return (image.detach().numpy() + 1) / 2


@contextmanager
def activation(model: torch.nn.Module, layer: str, channel: int) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """Mean activation of a unit over pictures; of a hidden channel its central position."""
    seen: dict[str, torch.Tensor] = {}
    hook = None
    if layer != "output":
        hook = model.get_submodule(layer).register_forward_hook(lambda m, x, y: seen.update(out=y))

    def objective(pictures: torch.Tensor) -> torch.Tensor:
        out = model(pictures)
        if layer == "output":
            return out[:, channel].mean()
        kept = seen["out"]
        return kept[:, channel, kept.shape[2] // 2, kept.shape[3] // 2].mean()

    try:
        yield objective
    finally:
        if hook is not None:
            hook.remove()


def repair_roi_align() -> None:
    """Gives Horama a `roi_align` by compiled code where torchvision has none.

    Beyond the image the compiled operator gives 0, as here; torchvision's substitute in Python does not.
    """
    from torchvision.extension import _has_ops
    from torchvision.ops import roi_align

    if _has_ops() or NOTES:
        return
    rng = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, 64, 64), generator=rng)
    boxes = torch.tensor([[0.0, 5.3, 7.1, 20.2, 22.0], [0.0, -0.9, 40.0, 14.0, 58.0], [0.0, 48.0, 46.0, 63.0, 63.5]])
    if not torch.allclose(roi_align(image, boxes, (32, 32)), sampled(image, boxes, (32, 32)), atol=1e-5):
        raise RuntimeError("the repaired roi_align differs from torchvision's")
    importlib.import_module("horama.common").roi_align = sampled  # type: ignore[attr-defined]
    NOTES.append("roi_align by grid_sample")


def sampled(image: torch.Tensor, boxes: torch.Tensor, output_size: tuple[int, int]) -> torch.Tensor:
    """What `roi_align` gives for boxes with at most as many pixels as their result, where it takes one sample a bin.

    Args:
        image: ``(1, 3, h, w)``.
        boxes: ``(n, 5)``: 0, left, top, right, bottom in pixels.
        output_size: Rows and columns of the result.
    """
    height, width = image.shape[2:]
    y = _samples(boxes[:, 2], boxes[:, 4], output_size[0])
    x = _samples(boxes[:, 1], boxes[:, 3], output_size[1])
    grid = torch.stack(
        torch.broadcast_tensors(2 * x[:, None, :] / (width - 1) - 1, 2 * y[:, :, None] / (height - 1) - 1), -1
    )
    inside = ((y >= -1) & (y <= height))[:, None, :, None] & ((x >= -1) & (x <= width))[:, None, None, :]
    seen = torch.nn.functional.grid_sample(
        image.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=True
    )
    return seen * inside


def _samples(low: torch.Tensor, high: torch.Tensor, n: int) -> torch.Tensor:
    """Centres ``(boxes, n)`` of the bins between ``low`` and ``high``."""
    return low[:, None] + (high - low).clamp_min(1)[:, None] * (torch.arange(n) + 0.5) / n


# Ours -----------------------------------------------------------------------------------------------------------------


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Seconds on the wall and of the processor."""
    spent: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.update(seconds=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def resident() -> int:
    """Bytes in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def pictures(row: str, task: dict[str, Any]) -> int:
    """Pictures that the peer shows to the network."""
    return int(task["steps"]) * (1 if row == "lucent" else CROPS)


def our_steps(shown: int, crops: int) -> tuple[int, int]:
    """Steps of `crops` pictures, and steps between presentations, that cost ``3 * shown`` forward-equivalents.

    A presentation for ten pictures, as the method has by default in 512 steps.
    """
    every = max(1, round(PRESENT / crops))
    return max(1, int((3 * shown - 3) / (3 * crops + 1 / every))), every


def ours(subject: Any, row: str, task: dict[str, Any]) -> Any:
    """Our ascent of the same cost."""
    crops = 1 if row == "lucent" else CROPS
    steps, every = our_steps(pictures(row, task), crops)
    shared = {"unit": task["unit"], "seed": task["seed"], "steps": steps, "every": every}
    if row == "horama_maco":
        phase = load_generator("phase", resolution=task["size"], cutoff=None, magnitude="bundled", standardize=True)
        return ascend(subject, phase, "maco", crops=crops, first=SIDE, last=SIDE, **shared)
    size = task["size"] if row == "lucent" else task["ours"]
    fourier = load_generator("fourier", resolution=size, cutoff=None, shell=False, contrast=LUCID_CONTRAST)
    return ascend(subject, fourier, "lucid", views=crops, **shared)


def write_spectrum(folder: Path) -> None:
    """The spectrum of the bundled photographs in the file that Horama looks for."""
    from closedloop.generators.phase import mean_spectrum

    if (folder / SPECTRUM).exists():
        return
    np.save(folder / SPECTRUM, mean_spectrum("bundled", 224)[:, :, :113].astype(np.float32))


def memory(folder: Path, steps: int, threads: int) -> dict[str, float]:
    """Growth of the peak resident size in bytes, each in a fresh process."""
    code = (
        "import resource, torch; from pathlib import Path; from closedloop.protocols import ascend;"
        "from closedloop.subjects import load_subject;"
        f"torch.set_num_threads({threads}); subject = load_subject('lite0', units=list(range({MEMORY_UNITS})));"
        "before = int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize();"
        f"ascend(subject, method='raw', unit=list(range({MEMORY_UNITS})), steps={steps}, every=1);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peer = Peers(folder, threads)
    answer = peer.ask(
        row="lucent", layer="output", channel=0, size=224, steps=min(steps, 10), seed=0, to=str(folder / "m.npy")
    )
    peer.close()
    ours_grown, theirs = float(ran.stdout.split()[-1]), float(answer["grown"])
    return {"raw_16_mib": ours_grown / 2**20, "lucent_mib": theirs / 2**20, "raw_16_over_lucent": ours_grown / theirs}


# The comparison -------------------------------------------------------------------------------------------------------


@cache
def loaded(layer: str, channels: tuple[int, ...]) -> Any:
    """The subject of some units of a layer."""
    return load_subject("lite0", layer=layer, units=list(channels))


@cache
def warmed(row: str, layer: str, channels: tuple[int, ...], size: int, peers: Peers) -> None:
    """One step of both, in which they import, find their kernels and read the spectrum of photographs."""
    task = {"layer": layer, "channel": channels[0], "unit": 0, "size": size, "ours": size, "steps": 1, "seed": 0}
    ours(loaded(layer, channels), row, task)
    peers.ask(row=row, to=peers.scratch, **task)


def pair(row: str, peers: Peers, task: dict[str, Any], channels: tuple[int, ...], ours_first: bool) -> dict[str, Any]:
    """One unit by both, and what both images do to it.

    Returns:
        For "ours" and for "peer" response, seconds, processor's seconds and forward-equivalents; and what to note.
    """
    subject = loaded(task["layer"], channels)
    warmed(row, task["layer"], channels, task["size"], peers)
    found: dict[str, Any] = {}
    images: dict[str, np.ndarray] = {}
    for who in SIDES if ours_first else reversed(SIDES):
        if who == "ours":
            with clocked() as spent:
                result = ours(subject, row, task)
            images[who], passes = result["image"].values, int(result["forward_equivalents"])
        else:
            spent = peers.ask(row=row, **task)
            found["notes"], passes = spent["notes"], 3 * pictures(row, task)
            images[who] = np.load(task["to"])
        found[who] = {"seconds": spent["seconds"], "cpu_s": spent["cpu_s"], "passes": passes}
    found["images"] = np.concatenate([shown_alike(images[who], subject.resolution) for who in SIDES])
    for who, response in zip(SIDES, subject.record(found["images"])[:, task["unit"]], strict=True):
        found[who]["response"] = float(response)
    return found


def shown_alike(image: np.ndarray, resolution: int) -> np.ndarray:
    """An image ``(3, h, w)`` as it is measured: 8 bits, whole, ``(1, 3, resolution, resolution)``."""
    return resize_images(quantize(np.clip(image, 0, 1)[None].astype(np.float32)), resolution)


def stored(part: Path | None, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A pair from its file, or computed and kept there."""
    if part is not None and part.exists():
        with np.load(part) as kept:
            return {**json.loads(str(kept["found"])), "images": kept["images"]}
    found = compute()
    if part is not None:
        part.parent.mkdir(parents=True, exist_ok=True)
        facts = {key: value for key, value in found.items() if key != "images"}
        np.savez(part, found=json.dumps(facts), images=found["images"])
    return found


def median_ratio(values: list[float]) -> tuple[float, list[float]]:
    """Median and its interval."""
    found = median_interval(values)
    return round(float(found["estimate"]), 3), [round(float(found[side]), 3) for side in ("low", "high")]


def summarize(row: str, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """The ratios of a row, by the names under which they stand in the JSON."""
    result: dict[str, Any] = {}
    for name, key in RATIOS.items():
        known = [p for p in pairs if min(p[who][key] for who in SIDES) > 0]  # two responses below 0 have no ratio
        ratios = [p["ours"][key] / p["peer"][key] for p in known] or [float("nan")]
        result[f"{name}_over_{row}_pairs"] = len(known)
        result[f"{name}_over_{row}"], result[f"{name}_over_{row}_interval"] = median_ratio(ratios)
    result[f"passes_over_{row}"] = round(
        float(np.median([p["ours"]["passes"] / p["peer"]["passes"] for p in pairs])), 3
    )
    result[f"{row}_wins"] = f"{sum(p['ours']['response'] > p['peer']['response'] for p in pairs)} of {len(pairs)}"
    return result


def write_sheet(path: Path, done: dict[str, list[dict[str, Any]]]) -> None:
    """For each row of the table ours above the peer's, one column a unit."""
    lines = [
        np.concatenate([(p["images"][side].transpose(1, 2, 0) * 255).round().astype(np.uint8) for p in pairs], 1)
        for pairs in done.values()
        for side in range(len(SIDES))
    ]
    Image.fromarray(np.concatenate(lines)).resize((lines[0].shape[1] // 2, 112 * len(lines))).save(path)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two units and a few steps: does it run?")
    parser.add_argument("--peers", type=Path, help="folder of the peers, filled if it is empty")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--steps", type=int, default=512, help="pictures for an image")
    parser.add_argument("--size", type=int, default=224, help="pixels of the images beside Lucent")
    parser.add_argument("--canvas", type=int, default=512, help="pixels of the images beside Horama")
    parser.add_argument("--ours", type=int, default=224, help="pixels of our images beside Horama's Fourier images")
    parser.add_argument("--outputs", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="draws units and first images")
    parser.add_argument("--memory", type=int, default=50, help="steps of the memory line; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="folder of a sheet of pictures and of the measurements")
    parser.add_argument("--work-for", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work_for:
        work(options.work_for)
        return
    if options.quick:
        options.steps, options.outputs, options.hidden, options.memory, options.canvas = 24, 1, 1, 2, 224
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        folder = (options.peers or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        install(folder)
        write_spectrum(folder)
        compare(folder, options)


def draw_units(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Layer and channel of the units."""
    rng = np.random.default_rng([options.seed, 20])
    shapes = load_subject("lite0", layer=[*LAYERS, "output"], units="all", engine="eager").units.coords
    width = {layer: sum(name == layer for name in shapes["layer"]) for layer in (*LAYERS, "output")}
    hidden = [LAYERS[i % len(LAYERS)] for i in range(options.hidden)]
    outputs = rng.choice(width["output"], options.outputs, replace=False)
    return [("output", int(c)) for c in outputs] + [(layer, int(rng.integers(width[layer]))) for layer in hidden]


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Runs all pairs and prints them; the last line is JSON."""
    units = draw_units(options)
    peers = Peers(folder, options.threads)
    done: dict[str, list[dict[str, Any]]] = {row: [] for row in options.rows}
    print(f"{'row':16}{'unit':16}{'response':>10}{'peer':>8}{'seconds':>10}{'peer':>8}{'processor s':>13}{'peer':>8}")
    for number, (layer, channel) in enumerate(units):
        channels = tuple(c for name, c in units if name == layer)
        for row in options.rows:
            task = {
                "layer": layer, "channel": channel, "unit": channels.index(channel),
                "size": options.size if row == "lucent" else options.canvas,
                "steps": options.steps if row == "lucent" else max(1, options.steps // CROPS), "ours": options.ours,
                "seed": options.seed + number, "to": peers.scratch,
            }  # fmt: skip
            part = None if options.out is None else options.out / f"{row}-{layer}-{channel}.npz"
            found = stored(part, partial(pair, row, peers, task, channels, ours_first=number % 2 == 0))
            done[row].append(found)
            columns = [found[who][key] for key in ("response", "seconds", "cpu_s") for who in SIDES]
            print(
                f"{row:16}{layer + ':' + str(channel):16}{columns[0]:10.2f}{columns[1]:8.2f}{columns[2]:10.1f}"
                f"{columns[3]:8.1f}{columns[4]:13.1f}{columns[5]:8.1f}",
                flush=True,
            )
    peers.close()
    figures: dict[str, Any] = {
        "units": [f"{layer}:{channel}" for layer, channel in units], "pictures": options.steps, "seed": options.seed,
        "threads": options.threads, "size": options.size, "canvas": options.canvas,
        "notes": sorted({note for pairs in done.values() for p in pairs for note in p["notes"]}),
    }  # fmt: skip
    for row, pairs in done.items():
        figures |= summarize(row, pairs)
        ratios = (f"{name} {figures[f'{name}_over_{row}']} {figures[f'{name}_over_{row}_interval']}" for name in RATIOS)
        print(f"ours ÷ {row}: {', '.join(ratios)}")
    if options.memory:
        figures["memory"] = {k: round(v, 2) for k, v in memory(folder, options.memory, options.threads).items()}
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        write_sheet(options.out / "sheet.png", done)
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
