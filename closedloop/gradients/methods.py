"""The gradient methods of the field by name, with their published settings.

A method is an optimizer, what it adds to the objective, and a view of the image while the gradient is taken. Pixel
units of the Caffe days (0 to 255 around a mean image) are kept as working units, so the published numbers stand here as
they are. Where a number depends on the network it was tuned for, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from closedloop.checks import encode_images, make_images
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.gradients.settings import Anchor, GradientSettings
from closedloop.images.forms import luminance
from closedloop.interfaces import Encoding, FloatArray, Generator, Objective, Optimizer
from closedloop.objectives import L1, AlphaNorm, LogProbability, Probability, Term, TotalVariation
from closedloop.optimizers import PPGN, Adam, GradientAscent
from closedloop.optimizers.gradient.regularizers import (
    Blur,
    Clip,
    Decay,
    FixedContrast,
    FixedNorm,
    SmallContribution,
    SmallNorm,
)

#: Lucid's coefficients give red, green and blue this standard deviation before the sigmoid for each unit of their own:
#: 1.95 for one channel of 224 pixels, mixed by the colour matrix.
LUCID_CONTRAST = 1.18


@dataclass(frozen=True)
class Request:
    """What a method is asked to climb.

    Attributes:
        generator: Turns codes into images.
        objective: The response that is wanted.
        column: Of the unit, where it is the response of one.
        classes: Columns of all channels at its place, itself among them; of itself alone where not all are recorded.
        output: Whether these are all units of a layer without positions, so that their softmax is a confidence.
        seed: Of the first code and of all that is random.
        steps: Steps to take.
        start: First codes ``(copies, dim)``; None for the method's own.
        copies: Codes that climb side by side.
        resolution: Height and width of what the subject sees, in pixels.
        units: How many units are recorded.
        options: The method's own options.
    """

    generator: Generator
    objective: Objective
    column: int | None
    classes: tuple[int, ...]
    output: bool
    seed: int
    steps: int
    start: FloatArray | None
    copies: int
    resolution: int
    units: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_class(self) -> bool:
        """Whether it is one of several classes, all of which are recorded."""
        return self.column is not None and self.output

    def shared(self) -> dict[str, Any]:
        """Returns the arguments that all optimizers take."""
        return {"steps": self.steps, "start": self.start, "copies": self.copies}


@dataclass(frozen=True)
class Plan:
    """A method, ready to run.

    Attributes:
        optimizer: Takes the steps.
        objective: What it climbs, penalties included.
        gradient: How gradients are taken.
    """

    optimizer: Optimizer
    objective: Objective
    gradient: GradientSettings


@dataclass(frozen=True)
class Method:
    """A method by name.

    Attributes:
        plan: Makes it ready.
        generator: Name and options of the generator that it was published with.
        steps: Published number of steps.
        options: What else may be set, with defaults.
        source: Where it comes from.
        needs_start: Whether it begins at an image that must be given.
    """

    plan: Callable[..., Plan]
    generator: Mapping[str, Any]
    steps: int
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_start: bool = False


def find_method(name: str) -> Method:
    """Returns the method of a name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in METHODS:
        raise UnknownNameError(f"method: no method {name!r}.{closest(str(name), METHODS)}")
    return METHODS[name]


def check_method(name: str, options: Mapping[str, Any]) -> Method:
    """Returns the method of a name, which takes these options.

    Raises:
        UnknownNameError: There is none.
        InvalidArgumentError: It does not take one of the options.
    """
    method = find_method(name)
    for option in options:
        if option not in method.options:
            raise InvalidArgumentError(
                f"{option}: method {name!r} has no such option.{closest(option, method.options)}"
                + (f" It takes: {', '.join(method.options)}." if method.options else "")
            )
    return method


def make_plan(name: str, request: Request) -> Plan:
    """Makes a method ready.

    Raises:
        UnknownNameError: No such method.
        InvalidArgumentError: It does not take one of the options, or does not fit the generator.
    """
    method = check_method(name, request.options)
    if method.needs_start and request.start is None:
        raise InvalidArgumentError(f"start: expected an image for {name!r}, which begins at one, got None.")
    return method.plan(request, **{**method.options, **request.options})


def _settings(
    request: Request, view: Any = None, redirected: int = 0, anchor: Anchor | None = None
) -> GradientSettings:
    return GradientSettings(view, redirected=redirected, seed=request.seed, anchor=anchor)


def _pixel_ascent(request: Request, **options: Any) -> GradientAscent:
    """Makes an ascent in bytes (255 to a unit of [0, 1]) around ImageNet's mean colour, as in the Caffe days."""
    space, pixels = request.generator.space, request.generator.resolution**2
    if not space.bounded or space.dim not in (pixels, 3 * pixels):
        raise InvalidArgumentError(
            f"generator: this method moves the values of pixels; expected codes that are those, as of 'pixels', got "
            f"{request.generator.name!r} with codes of {space.dim} numbers. The methods 'adam', 'dgn-am' and 'ppgn' "
            "climb in the codes of any generator."
        )
    colour = np.array([0.485, 0.456, 0.406])
    mean = luminance(colour[:, None, None]).ravel() if space.dim == pixels else colour
    shared = {**request.shared(), "unit": 255.0, "origin": np.repeat(mean, pixels)}
    return GradientAscent(space, request.seed, **shared, **options)


def _probability(request: Request) -> Objective:
    """Returns the softmax probability where the target is a class, else its response."""
    return Probability(request.column, request.classes) if request.is_class else request.objective  # type: ignore[arg-type]


def _raw(request: Request, *, rate: float | None) -> Plan:
    """Plans an ascent without regularizers: that of the fooling paper, for classes on their probability."""
    if request.is_class and rate is None:
        policy: dict[str, Any] = {"policy": "progress01", "rate": 0.02, "late": 0.1, "max_rate": 1e7}
    else:
        policy = {"policy": "progress", "rate": 2.0 if rate is None else rate}
    return Plan(_pixel_ascent(request, spread=1.0, **policy), _probability(request), _settings(request))


#: The four sets of Table 1 of Yosinski et al. 2015: decay; blur radius and steps between blurs; percentile of small
#: norms and of small contributions; and the policy of the step.
YOSINSKI: dict[int, tuple[list[Any], dict[str, Any]]] = {
    1: ([Blur(0.5, 4), SmallNorm(50)], {"policy": "progress", "rate": 2.0, "max_rate": 100.0}),
    2: ([Decay(0.3), SmallNorm(20)], {"policy": "constant", "rate": 100.0}),
    3: ([Decay(0.0001), Blur(1.0, 4)], {"policy": "constant", "rate": 100.0}),
    4: ([Blur(0.5, 4), SmallContribution(90)], {"policy": "progress", "rate": 2.0, "max_rate": 1e8}),
}
#: What is set anew where the published step, tuned to the gradients of CaffeNet, hardly moves an image: those of the
#: outputs of EfficientNet-Lite0 are some 30 times smaller. Set 4 climbs as published.
RETUNED: dict[int, dict[str, float]] = {1: {"max_rate": 1e8}, 2: {"rate": 1e4}, 3: {"rate": 1e4}, 4: {}}


def _yosinski(number: int) -> Callable[..., Plan]:
    """Returns the plan of one of the four sets."""
    regularizers, published = YOSINSKI[number]

    def plan(request: Request, *, rate: float | None, max_rate: float | None) -> Plan:
        policy = dict(published)
        if rate is not None:
            policy["rate"] = rate
        if max_rate is not None:
            policy["max_rate"] = max_rate
        climbed = _pixel_ascent(request, spread=10.0, regularizers=regularizers, spare_last=True, **policy)
        return Plan(climbed, request.objective, _settings(request))

    return plan


def _total_variation(request: Request, *, rate: float, tv: float, norm: float, l1: float) -> Plan:
    """Penalizes total variation, large values (in the spirit of Mahendran & Vedaldi) and distance from grey."""
    penalty = tv * TotalVariation() + norm * AlphaNorm(6) + l1 * L1()
    climbed = Adam(request.generator.space, request.seed, rate=rate, spread=0.1, **request.shared())
    return Plan(climbed, request.objective - penalty, _settings(request))  # type: ignore[operator]


def _mei(request: Request, *, contrast: float, norm: float | None, rate: float, smooth: tuple[float, float]) -> Plan:
    """Fixes the contrast, or the norm around the middle of the space, and blurs the gradient."""
    fixed = FixedContrast(contrast) if norm is None else FixedNorm(norm)
    climbed = GradientAscent(
        request.generator.space,
        request.seed,
        policy="mean",
        rate=rate,
        last_rate=rate / 10,
        smooth=smooth,
        unit=1.0,
        regularizers=[fixed],
        spread=contrast,
        **request.shared(),
    )
    return Plan(climbed, request.objective, _settings(request))


def _deepdream(request: Request, *, rate: float) -> Plan:
    """Plans octaves and jitter; a step changes a pixel by `rate` / 255 on average."""
    from closedloop.gradients.views import deepdream_view

    # The steps are shared out among the four octaves of the view.
    view = deepdream_view(request.generator.resolution, request.resolution, max(1, request.steps // 4))
    climbed = _pixel_ascent(request, policy="mean", rate=rate, spread=10.0)
    return Plan(climbed, request.objective, _settings(request, view))


def _adam(request: Request, *, rate: float) -> Plan:
    """Plans nothing but the gradient: the ceiling of a generator, as far as one knows."""
    climbed = Adam(request.generator.space, request.seed, rate=rate, **request.shared())
    return Plan(climbed, request.objective, _settings(request))


def _lucid(request: Request, *, rate: float, views: int) -> Plan:
    """Plans an image robust to being moved, scaled and turned; `views` pictures of it in each step."""
    from closedloop.gradients.crops import Repeat
    from closedloop.gradients.views import Chain, lucid_view

    climbed = Adam(request.generator.space, request.seed, rate=rate, unit=1.0, spread=0.01, **request.shared())
    view = lucid_view() if views == 1 else Chain((Repeat(views), lucid_view()))
    return Plan(climbed, request.objective, _settings(request, view, redirected=16))


def _maco(request: Request, *, rate: float, crops: int, first: float, last: float) -> Plan:
    """Crops whose mean side goes from `first` to `last`, as shares of the image's."""
    from closedloop.gradients.views import maco_view

    view = maco_view(request.resolution, request.steps, crops, first, last)
    climbed = Adam(
        request.generator.space,
        request.seed,
        rate=rate,
        nesterov=True,
        unit=1.0,
        spread=request.generator.space.scale,
        **request.shared(),
    )
    return Plan(climbed, request.objective, _settings(request, view))


def _accentuate(request: Request, *, rate: float, crops: int, alpha: float) -> Plan:
    """Plans an ascent from an image, held to it by what the other units answer under the same crops."""
    from closedloop.gradients.views import accentuation_view

    climbed = Adam(request.generator.space, request.seed, rate=rate, unit=1.0, **request.shared())
    view = accentuation_view(request.resolution, crops)
    anchor = None
    if alpha != 0 and request.start is not None:
        anchor = Anchor(np.asarray(request.start).reshape(-1, request.generator.space.dim)[0], _others(request), alpha)
    return Plan(climbed, request.objective, _settings(request, view, anchor=anchor))


def _others(request: Request) -> tuple[int, ...]:
    """Returns the columns of the units that the objective does not read."""
    read = request.objective.columns if isinstance(request.objective, Term) else None
    return () if read is None else tuple(i for i in range(request.units) if i not in read)


def _dgn_am(request: Request, *, rate: float, decay: float, limit: float) -> Plan:
    """Plans steps of fixed mean size, clipped to the prior's range, shrunk a little."""
    climbed = GradientAscent(
        request.generator.space,
        request.seed,
        policy="mean",
        rate=rate,
        last_rate=1e-10,
        regularizers=[Clip(-limit, limit), Decay(decay)],
        **request.shared(),
    )
    return Plan(climbed, request.objective, _settings(request))


def _ppgn(
    request: Request,
    *,
    rate: float,
    last_rate: float,
    prior: float,
    condition: float,
    noise: float,
    limit: float,
    exact: bool,
) -> Plan:
    """Plans steps along a class's log probability and towards what the generator's encoder makes of the image."""
    generator = request.generator
    if not isinstance(generator, Encoding):
        raise InvalidArgumentError(
            f"generator: expected one with an encoder (encode) for 'ppgn', got {generator.name!r}; 'native' has one."
        )
    objective = request.objective
    if len(request.classes) > 1 and request.column is not None:
        objective = LogProbability(request.column, request.classes, exact=exact)
    climbed = PPGN(
        generator.space,
        request.seed,
        reconstruct=lambda codes: encode_images(request.generator, make_images(request.generator, codes)),
        rate=rate,
        last_rate=last_rate,
        epsilons=(prior, condition, noise),
        regularizers=[Clip(-limit, limit)],
        **request.shared(),
    )
    return Plan(climbed, objective, _settings(request))


#: The methods by name, with the generator, the number of steps and the numbers that they were published with.
METHODS: dict[str, Method] = {
    "raw": Method(_raw, {"name": "pixels"}, 500, "Nguyen, Yosinski & Clune 2015, unregularized", {"rate": None}),
    **{
        f"yosinski-{i}": Method(
            _yosinski(i),
            {"name": "pixels"},
            steps,
            f"Yosinski et al. 2015, Table 1, set {i}",
            {"rate": None, "max_rate": None, **RETUNED[i]},
        )
        for i, steps in ((1, 500), (2, 750), (3, 1000), (4, 1000))
    },
    "tv": Method(
        _total_variation,
        {"name": "pixels"},
        200,
        "after Mahendran & Vedaldi 2015",
        {"rate": 0.05, "tv": 1.0, "norm": 1.0, "l1": 0.0},
    ),
    "mei": Method(
        _mei,
        {"name": "pixels"},
        1000,
        "after Walker et al. 2019",
        {"contrast": 0.2, "norm": None, "rate": 0.02, "smooth": (3.0, 1.0)},
    ),
    "deepdream": Method(_deepdream, {"name": "pixels"}, 40, "Mordvintsev et al. 2015", {"rate": 1.5}),
    "adam": Method(_adam, {"name": "native"}, 150, "Kingma & Ba 2015, on the codes of a generator", {"rate": 0.1}),
    "lucid": Method(
        _lucid,
        {"name": "fourier", "cutoff": None, "shell": False, "contrast": LUCID_CONTRAST},
        512,
        "Olah et al. 2017",
        {"rate": 0.05, "views": 1},
    ),
    "maco": Method(
        _maco,
        {"name": "phase", "cutoff": None, "magnitude": "bundled", "standardize": True},
        256,
        "Fel et al. 2023",
        {"rate": 1.0, "crops": 32, "first": 0.5, "last": 0.05},
    ),
    "accentuate": Method(
        _accentuate,
        {"name": "fourier", "cutoff": None, "shell": False, "contrast": LUCID_CONTRAST},
        99,
        "Hamblin et al. 2024",
        {"rate": 0.05, "crops": 16, "alpha": 1.0},
        needs_start=True,
    ),
    "dgn-am": Method(
        _dgn_am, {"name": "native"}, 200, "Nguyen et al. 2016", {"rate": 0.5, "decay": 0.01, "limit": 3.0}
    ),
    "ppgn": Method(
        _ppgn,
        {"name": "native"},
        200,
        "Nguyen et al. 2017",
        {"rate": 0.1, "last_rate": 0.1, "prior": 1e-5, "condition": 1.0, "noise": 1e-17, "limit": 3.0, "exact": True},
    ),
}
