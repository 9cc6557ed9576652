"""Which pixels a response comes from: gradient, deconvnet, guided backpropagation and integrated gradients.

Sources: Simonyan, Vedaldi & Zisserman 2013, "Deep Inside Convolutional Networks" (gradient); Zeiler & Fergus 2014,
"Visualizing and Understanding Convolutional Networks" (deconvnet); Springenberg et al. 2014, "Striving for Simplicity"
(guided backpropagation); Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks". Gradient and
integrated gradients are those of captum: ``pip install 'closedloop[attribution]'``. captum's other two change the
modules ``nn.ReLU`` and nothing else; here the rule is applied to every rectifier in the graph of the response, however
it was called, and a network with activations for which there is no rule is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from closedloop.checks import check_images, check_whole
from closedloop.errors import InvalidArgumentError, closest, reason, require
from closedloop.interfaces import Differentiable, FloatArray, Objective, Stateful, Subject
from closedloop.objectives import Unit, parse_objective

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["gradient", "deconvnet", "guided-backprop", "integrated-gradients"]
Seed = Literal["one", "activation"]
Filter = Literal["raw", "gray", "norm", "normblur"]
#: The methods of `attribute`,
METHODS: tuple[str, ...] = get_args(Method)
#: and the filters of `attribution_pictures`.
FILTERS: tuple[Filter, ...] = get_args(Filter)
#: Methods with a rule for rectifiers.
RULES = ("deconvnet", "guided-backprop")
#: Activations for which neither rule is defined, as torch names their nodes in a graph.
REFUSED = {
    "LeakyRelu": "LeakyReLU",
    "PreluKernel": "PReLU",
    "RreluWithNoise": "RReLU",
    "Elu": "ELU",
    "Celu": "CELU",
    "Gelu": "GELU",
    "Erf": "GELU (written with erf)",
    "Silu": "SiLU",
    "Mish": "Mish",
    "Softplus": "Softplus",
    "Hardswish": "Hardswish",
    "Softshrink": "Softshrink",
    "Hardshrink": "Hardshrink",
    "Glu": "GLU",
    "Abs": "abs",
    "Maximum": "maximum, which may be a rectifier",
    "Where": "where, which may be a rectifier",
    "MaskedFill": "masked_fill, which may be a rectifier",
}


class AttributionWarning(UserWarning):
    """An attribution says nothing, and why."""


def attribute(
    subject: Subject,
    images: NDArray[Any],
    objective: Objective | str | int = 0,
    method: Method = "gradient",
    *,
    seed: Seed = "one",
    baseline: float | ArrayLike = 0.5,
    steps: int = 64,
    chunk: int = 16,
    device: str = "cpu",
) -> xr.DataArray:
    """Attributes a score to each pixel and colour of each image, with a sign.

    A rectifier passes the gradient g at the input x: "gradient" g·[x > 0], "deconvnet" g·[g > 0], "guided-backprop"
    g·[x > 0]·[g > 0]. Other parts of the network are differentiated as they are. Rectifiers are relu and threshold at
    0, relu6, and clamps with lower bound 0, as modules, functions or methods; sigmoid and tanh are none. Deconvnet and
    guided backpropagation are pictures, not explanations: they change little when a network's weights are made random
    (Adebayo et al. 2018).

    Args:
        subject: The network that is shown images, `Differentiable`. It is left as it was found, also after an error.
        images: ``(n, 3, h, w)``, RGB in [0, 1].
        objective: What is attributed: an objective, its text, or the column of one unit.
        method: "gradient", "deconvnet", "guided-backprop", or "integrated-gradients" (times image minus baseline).
        seed: What the backward pass begins with: "one", or the "activation", the score itself.
        baseline: Where integrated gradients begin: a grey level in [0, 1], or an image ``(3, h, w)``.
        steps: Points on the path of integrated gradients.
        chunk: Images that are differentiated together.
        device: Where the subject's network is.

    Returns:
        ``(image, color, y, x)`` float32 of the images' size, score per unit of RGB (integrated gradients: score), with
        the coordinate `score (image)`, and for integrated gradients `baseline_score` and `completeness_error`: the sum
        of the attributions minus the rise of the score from the baseline, 0 if the path had endless points. `reason`
        says why one is zero everywhere.

    Raises:
        InvalidArgumentError: An argument does not fit; the subject cannot be differentiated; or its network has
            activations for which the method has no rule, which are named.
        MissingExtraError: captum is not installed.

    Warns:
        AttributionWarning: An attribution is zero everywhere.
    """
    if not isinstance(subject, Differentiable):
        raise InvalidArgumentError(
            f"subject: expected one with a forward(x) that keeps torch's graph, got {type(subject).__name__} "
            f"{subject.name!r}; a TorchSubject has one. In a wrapper it may be the subject inside: wrapper.subject."
        )
    _check_choices(method, seed)
    shown, start = check_images(images), _check_baseline(baseline, images)
    goal = _objective(objective)
    check_whole("steps", steps, 1)
    size = check_whole("chunk", chunk, 1)
    with _untouched(subject), _explained(subject.name):
        scored = _scored(subject, goal)
        parts = [
            _part(scored, shown[i : i + size], method, seed, start, (int(steps), size), device)
            for i in range(0, len(shown), size)
        ]
    return _labelled(parts, shown.shape, {"subject": subject.name, "objective": goal.describe(), "method": method})


def _check_choices(method: str, seed: str) -> None:
    for name, value, known in (("method", method, METHODS), ("seed", seed, get_args(Seed))):
        if value not in known:
            raise InvalidArgumentError(f"{name}: no {name} {value!r:.80}.{closest(str(value), known)}")
    if method == "integrated-gradients" and seed != "one":
        raise InvalidArgumentError(
            f"seed: expected 'one' for integrated gradients, whose sum is the rise of the score, got {seed!r}."
        )


def _check_baseline(baseline: float | ArrayLike, images: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the image ``(1, 3, h, w)`` or grey level ``(1, 1, 1, 1)`` at which the path begins."""
    start = np.asarray(baseline, dtype=np.float32)
    if start.ndim == 0 and 0 <= start <= 1:
        return start.reshape(1, 1, 1, 1)
    if start.shape != np.shape(images)[1:]:
        raise InvalidArgumentError(
            f"baseline: expected a grey level in [0, 1] or an image {np.shape(images)[1:]}, got "
            f"{baseline if start.ndim == 0 else f'shape {start.shape}'}."
        )
    return check_images(start[None], name="baseline")


def _objective(objective: Objective | str | int) -> Objective:
    if isinstance(objective, str):
        return parse_objective(objective)
    return Unit(int(objective)) if isinstance(objective, (int, np.integer)) else objective


@contextmanager
def _untouched(subject: Subject) -> Iterator[None]:
    """Puts the state of a subject that has one back."""
    state = subject.state() if isinstance(subject, Stateful) else None
    try:
        yield
    finally:
        if state is not None and isinstance(subject, Stateful):
            subject.restore(state)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns torch's errors of a missing gradient into one that says what to do."""
    try:
        yield
    except RuntimeError as error:
        raise InvalidArgumentError(
            f"subject {name!r}: cannot differentiate its responses to an image ({reason(error)})."
        ) from error


def _scored(subject: Differentiable, objective: Objective) -> Callable[[Tensor], Tensor]:
    """Returns a function that turns images ``(n, 3, h, w)`` into scores ``(n,)``, and keeps the graph."""
    import torch

    def scores(x: Tensor) -> Tensor:
        found: Tensor = objective(subject.forward(x))
        if torch.is_grad_enabled() and not found.requires_grad:
            raise InvalidArgumentError(
                "subject: its responses do not depend on the image in a way that can be differentiated; it may round, "
                "search, or switch gradients off."
            )
        return found

    return scores


#: Attributions ``(n, 3, h, w)``, and what is known of each image by name.
Part = tuple[NDArray[np.float32], dict[str, FloatArray]]


def _part(
    scored: Callable[[Tensor], Tensor],
    images: NDArray[np.float32],
    method: str,
    seed: str,
    start: NDArray[np.float32],
    size: tuple[int, int],
    device: str,
) -> Part:
    """Returns the attributions of some images."""
    import torch

    with torch.enable_grad():
        x = torch.tensor(images, device=device).requires_grad_()
        if method == "integrated-gradients":
            return _integrated(scored, x, torch.tensor(start, device=device).expand_as(x), *size)
        if method in RULES:
            scores, maps = _by_rule(scored, x, method, seed)
        else:
            scores, maps = scored(x).detach(), _captum("Saliency", scored).attribute(x, abs=False)
            maps = maps * scores.view(-1, 1, 1, 1) if seed == "activation" else maps
    return _array(maps), {"score": _array(scores)}


def _integrated(scored: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, steps: int, chunk: int) -> Part:
    found, error = _captum("IntegratedGradients", scored).attribute(
        x, baselines=baseline, n_steps=steps, internal_batch_size=max(chunk, len(x)), return_convergence_delta=True
    )
    facts = {
        "score": scored(x),
        "baseline_score": scored(baseline.detach().clone().requires_grad_()),
        "completeness_error": error,
    }
    return _array(found), {name: _array(value) for name, value in facts.items()}


def _captum(name: str, scored: Callable[[Tensor], Tensor]) -> Any:
    """Returns one of captum's attributions of a function."""
    captum = require("captum.attr", "attribution", "method: gradient or integrated-gradients")
    return getattr(captum, name)(scored)


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().cpu().numpy().astype(np.float32)
    return array


def _by_rule(scored: Callable[[Tensor], Tensor], x: Tensor, method: str, seed: str) -> tuple[Tensor, Tensor]:
    """Returns scores ``(n,)``, and the backward pass in which rectifiers follow the rule of a method, if it has one.

    The rules are hooks on the nodes of this pass's own graph, and gone with it.
    """
    import torch

    scores = scored(x)
    if method == "gradient":
        return scores, torch.autograd.grad(scores.sum(), x)[0]
    nodes = graph_nodes(scores.grad_fn)
    unknown = sorted({name for name in map(_refused, nodes) if name})
    if unknown:
        raise InvalidArgumentError(
            f"method: {method} has a rule for rectifiers (ReLU, ReLU6, clamp at 0) only, and this network has "
            f"{', '.join(unknown)}; use 'gradient' or 'integrated-gradients'."
        )
    rule = _deconvnet if method == "deconvnet" else _guided
    for node in nodes:
        if _rectifier(node):
            node.register_hook(rule)
    begin = scores.detach() if seed == "activation" else torch.ones_like(scores)
    return scores, torch.autograd.grad(scores, x, begin)[0]


def backpropagate(
    scored: Callable[[Tensor], Tensor], images: NDArray[np.float32], method: str = "gradient", device: str = "cpu"
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Goes back once by a method's rule: what `attribute` does, without a subject, quickly enough for a camera.

    Args:
        scored: Images -> scores ``(n,)``, with torch's graph kept.
        images: ``(n, 3, h, w)``, or movies, in [0, 1].
        method: "gradient", "deconvnet" or "guided-backprop".
        device: Where it runs.

    Returns:
        Scores ``(n,)``, and signed attributions of the shape of the images; zero everywhere where no path leads back.

    Raises:
        InvalidArgumentError: No such method, one that has no rule for this network, or a score without a gradient.
    """
    import torch

    if method not in ("gradient", *RULES):
        raise InvalidArgumentError(f"method: no method {method!r:.80}.{closest(str(method), ('gradient', *RULES))}")
    with torch.enable_grad(), _explained("function"):
        x = torch.tensor(images, device=device).requires_grad_()
        scores, maps = _by_rule(scored, x, method, "one")
    return _array(scores), _array(maps)


def _deconvnet(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Rectifies what comes down; whether the input was above 0 does not count."""
    passed = None if outputs[0] is None else outputs[0].clamp(min=0)
    return (passed, *inputs[1:])


def _guided(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Rectifies the gradient."""
    passed = None if inputs[0] is None else inputs[0].clamp(min=0)
    return (passed, *inputs[1:])


def graph_nodes(last: Any) -> list[Any]:
    """Returns all nodes of a torch graph that its last one depends on, each once."""
    found: dict[Any, None] = {last: None}
    open_nodes = [last]
    while open_nodes:
        for node, _ in open_nodes.pop().next_functions:
            if node is not None and node not in found:
                found[node] = None
                open_nodes.append(node)
    return list(found)


def _kind(node: Any) -> str:
    """Returns the name of an operation as torch writes it before "Backward"."""
    return str(node.name()).partition("Backward")[0]


def _rectifier(node: Any) -> bool:
    """Tells whether a node is max(x, 0), up to an upper bound."""
    match _kind(node):
        case "Relu":
            return True
        case "Threshold":
            return float(node._saved_threshold) == 0
        case "Hardtanh":
            return float(node._saved_min_val) == 0
        case "Clamp" | "ClampMin":
            low = node._saved_min
            return low is not None and not bool((np.asarray(_plain(low)) != 0).any())
    return False


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _refused(node: Any) -> str:
    """Returns what a user calls an activation for which there is no rule; "" for all else."""
    import torch

    kind = _kind(node)
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        return f"a function with a gradient of its own ({kind})"
    if "jit" in kind:
        return "a compiled part, which cannot be looked into"
    if kind == "Threshold" and not _rectifier(node):
        return "Threshold at another value than 0"
    return "SiLU (written with sigmoid)" if _swish(node) else REFUSED.get(kind, "")


def _swish(node: Any) -> bool:
    """Tells whether a product is x · sigmoid(c x)."""
    if _kind(node) != "Mul":
        return False
    factors = [f for f, _ in node.next_functions]
    for gate, other in (factors, factors[::-1]) if len(factors) == 2 else ():
        if gate is not None and _kind(gate) == "Sigmoid":
            inside = gate.next_functions[0][0]
            scaled = [f for f, _ in inside.next_functions] if inside is not None and _kind(inside) == "Mul" else []
            if other in (inside, *scaled):
                return True
    return False


def _labelled(parts: list[Part], shape: tuple[int, ...], scalars: dict[str, str]) -> xr.DataArray:
    """Returns the attributions with what is known of them; warns of those that say nothing."""
    maps = np.concatenate([m for m, _ in parts]) if parts else np.empty(shape, np.float32)
    names = parts[0][1] if parts else ()
    facts = {name: ("image", np.concatenate([f[name] for _, f in parts])) for name in names}
    dead = ~maps.reshape(len(maps), int(np.prod(shape[1:]))).any(1)
    why = "a small change of a pixel does not change the score"
    if scalars["method"] in RULES:
        why = "no path from the score to a pixel follows the rule"
    if dead.any():
        warnings.warn(
            f"images {np.flatnonzero(dead)[:5].tolist()}: the attribution is zero everywhere, for {why}. The unit may "
            "be silent there; attribute the layer before its rectifier.",
            AttributionWarning,
            stacklevel=3,
        )
    return xr.DataArray(
        maps,
        dims=("image", "color", "y", "x"),
        name="attribution",
        coords={**facts, "reason": ("image", np.where(dead, why, "").astype(object)), "color": list("RGB"), **scalars},
    )


def attribution_pictures(attributions: ArrayLike, filter: Filter = "raw") -> NDArray[np.float32]:  # noqa: A002
    """Draws attributions as images to look at, each scaled so that 1 value in 200 reaches full contrast.

    Args:
        attributions: ``(n, 3, h, w)``, signed.
        filter: "raw" (0 is mid-grey), "gray" (mean over colours, 0 is mid-grey), "norm" (length over colours, 0 is
            black), or "normblur" (the same, blurred by a Gaussian of 4 pixels).

    Returns:
        ``(n, 3, h, w)`` float32, RGB in [0, 1].
    """
    if filter not in FILTERS:
        raise InvalidArgumentError(f"filter: no filter {filter!r:.80}.{closest(str(filter), FILTERS)}")
    maps = np.asarray(attributions, dtype=np.float32)
    if maps.ndim != 4 or maps.shape[1] != 3 or not np.isfinite(maps).all():
        raise InvalidArgumentError(f"attributions: expected finite numbers (n, 3, h, w), got shape {maps.shape}.")
    if filter in ("raw", "gray"):
        values = maps if filter == "raw" else maps.mean(1, keepdims=True)
        pictures = 0.5 + 0.5 * values / _scale(values)
    else:
        values = np.sqrt((maps**2).sum(1, keepdims=True))
        if filter == "normblur":
            values = gaussian_filter(values, (0, 0, 4.0, 4.0))  # as the display filter of Yosinski et al. 2015
        pictures = values / _scale(values)
    shown: NDArray[np.float32] = np.clip(np.broadcast_to(pictures, maps.shape), 0, 1).astype(np.float32)
    return shown


def _scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the size that 1 in 200 of each image's values exceeds ``(n, 1, 1, 1)``; 1 where all are 0."""
    sizes = np.abs(values)
    most, largest = np.percentile(sizes, 99.5, axis=(1, 2, 3), keepdims=True), sizes.max((1, 2, 3), keepdims=True)
    return np.where(most > 0, most, np.where(largest > 0, largest, 1)).astype(np.float32)
