"""The nouns of an experiment, as protocols that outsiders can implement without importing closedloop.

Arrays are numpy throughout: codes ``(n, d)`` float, images ``(n, 3, h, w)`` float32 RGB in [0, 1], responses
``(n, units)`` or ``(n, units, time)`` float with NaN for a lost presentation, scores ``(n,)`` float. Subjects and
generators that state it have images of one grey channel, ``(n, 1, h, w)``, or movies ``(n, frames, channels, h, w)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import LateColumns, as_names, as_numbers, is_number, is_plain
from closedloop.capability import Capability
from closedloop.errors import InvalidArgumentError
from closedloop.presentations import Answers, Asked
from closedloop.readable import Readable, some

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.floating[Any]]
#: A tree of plain values (dict, list, str, numbers, None) and numpy arrays: all that a saved state may hold.
State = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """The codes that a generator understands: describes, validates and draws them.

    Attributes:
        dim: Length of a code.
        low: Lower bound of each coordinate, ``-inf`` where there is none.
        high: Upper bound of each coordinate, ``inf`` where there is none.
        scale: Standard deviation of the prior in an unbounded space, N(0, scale²) on each coordinate. A bounded
            space has the uniform distribution between its bounds as prior, and `scale` is its standard deviation.
        published: The length in code units that is called 1 in settings which were published for this generator; None
            for `scale`. It has no part in comparisons.
    """

    dim: int
    low: float = -np.inf
    high: float = np.inf
    scale: float = 1.0
    published: float | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not is_number(self.dim) or self.dim % 1 != 0 or self.dim < 1:
            raise InvalidArgumentError(f"dim: expected a whole number of at least 1, got {self.dim!r}.")
        for name in ("low", "high", "scale"):
            if not is_number(getattr(self, name)):
                raise InvalidArgumentError(f"{name}: expected a number, got {getattr(self, name)!r}.")
        if not self.low < self.high:
            raise InvalidArgumentError(f"low, high: expected low < high, got {self.low} and {self.high}.")
        if np.isfinite(self.low) != np.isfinite(self.high):
            raise InvalidArgumentError(
                f"low, high: expected two finite bounds or none, got {self.low} and {self.high}."
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InvalidArgumentError(f"scale: expected a finite number above 0, got {self.scale!r}.")
        if self.published is not None and not (np.isfinite(self.published) and self.published > 0):
            raise InvalidArgumentError(f"published: expected a finite number above 0, got {self.published!r}.")

    def __repr__(self) -> str:
        bounds = f"low={self.low:g}, high={self.high:g}" if self.bounded else f"scale={self.scale:g}"
        return f"Space(dim={self.dim}, {bounds})"

    @property
    def bounded(self) -> bool:
        """Whether every coordinate has a lower and an upper bound."""
        return bool(np.isfinite(self.low))

    def in_scale(self, length: float) -> float:
        """Gives a published setting's length in units of `scale`: as published on the generator that it is for."""
        return length if self.published is None else length * self.published / self.scale

    @property
    def center(self) -> FloatArray:
        """The middle of the prior, ``(dim,)``: zeros, or midway between the bounds."""
        return np.full(self.dim, (self.low + self.high) / 2 if self.bounded else 0.0)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draws ``n`` codes ``(n, dim)`` from the prior."""
        if self.bounded:
            return rng.uniform(self.low, self.high, (n, self.dim))
        return self.scale * rng.standard_normal((n, self.dim))

    def clip(self, codes: FloatArray) -> FloatArray:
        """Moves each coordinate to the nearest value within the bounds; a new array."""
        return np.clip(codes, self.low, self.high) if self.bounded else codes.copy()

    def check(self, codes: FloatArray) -> FloatArray:
        """Returns a copy of ``codes`` if they are real numbers ``(n, dim)``, finite and within the bounds.

        Raises:
            InvalidArgumentError: Otherwise, with what was expected and what came.
        """
        codes = as_numbers("codes", codes)
        if codes.ndim != 2 or codes.shape[1] != self.dim:
            raise InvalidArgumentError(f"codes: expected shape (n, {self.dim}), got {codes.shape}.")
        if not np.isfinite(codes).all():
            raise InvalidArgumentError("codes: expected finite numbers, got NaN or infinity.")
        if self.bounded and (codes.min(initial=self.high) < self.low or codes.max(initial=self.low) > self.high):
            raise InvalidArgumentError(
                f"codes: expected values in [{self.low}, {self.high}], got [{codes.min()}, {codes.max()}]; "
                "clip them with space.clip(codes)."
            )
        return codes


@dataclass(frozen=True)
class Form:
    """What stimuli are made of: colours or grey, one picture or a movie.

    Attributes:
        channels: 3 for red, green and blue; 1 for grey.
        frames: Pictures of a movie; None for a still.
        rate_hz: Pictures per second of a movie, up to 1000; None for a still.
    """

    channels: int = 3
    frames: int | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InvalidArgumentError(f"channels: expected 3 (red, green, blue) or 1 (grey), got {self.channels!r}.")
        if (self.frames is None) != (self.rate_hz is None):
            raise InvalidArgumentError(
                "frames, rate_hz: expected both for a movie or none for a still, got "
                f"{self.frames!r} and {self.rate_hz!r}."
            )
        if self.frames is None or self.rate_hz is None:
            return
        if int(self.frames) != self.frames or self.frames < 1:
            raise InvalidArgumentError(f"frames: expected a whole number of at least 1, got {self.frames!r}.")
        if not 0 < self.rate_hz <= 1000:
            raise InvalidArgumentError(
                f"rate_hz: expected above 0 and at most 1000 frames per second, got {self.rate_hz!r}."
            )

    @property
    def leading(self) -> tuple[int, ...]:
        """The axes between the first one and height and width: ``(channels,)`` or ``(frames, channels)``."""
        return (self.channels,) if self.frames is None else (self.frames, self.channels)

    @property
    def shape(self) -> str:
        """The shape of an array of them, in words."""
        return f"(n, {', '.join(map(str, self.leading))}, h, w)"

    @property
    def duration_s(self) -> float:
        """Seconds that one takes; 0 for a still, which lasts as long as it is shown."""
        return 0.0 if self.frames is None or self.rate_hz is None else self.frames / self.rate_hz

    def describe(self) -> str:
        """Says it in words, such as "grey movies of 8 frames at 20 Hz"."""
        colour = "grey" if self.channels == 1 else "colour"
        if self.frames is None:
            return f"{colour} stills"
        return f"{colour} movies of {self.frames} frames at {self.rate_hz:g} Hz"


#: What stimuli are of which nothing else is said: colour stills.
STILL = Form()


@runtime_checkable
class Generator(Capability, Protocol):
    """Turns codes into images. Same codes, same images; an image does not depend on its neighbours in the batch."""

    @property
    def name(self) -> str:
        """A short name for records."""
        ...

    @property
    def space(self) -> Space:
        """The codes it understands."""
        ...

    @property
    def resolution(self) -> int:
        """Height and width of its images in pixels."""
        ...

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]; or of the form it states."""
        ...


@runtime_checkable
class Subject(Capability, Protocol):
    """What is studied: shown images, its responses are recorded, and nothing else of it can be touched.

    A subject may be slow, noisy and stateful. It never sees a code.
    """

    @property
    def name(self) -> str:
        """A short name for records."""
        ...

    @property
    def units(self) -> Units:
        """What is recorded, one entry for each column of the responses."""
        ...

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into responses ``(n, units)`` or ``(n, units, time)``.

        Other images where it states its form: grey ones, or movies. A row of NaN is a lost presentation.
        """
        ...


#: Names that a recording gives to dimensions, coordinates and variables of its own; columns of units have others.
RECORDED = frozenset(
    {
        *("response_own", "response_all", "own_neuroid", "common", "common_row"),
        *("responses", "score", "latent_code", "presentation", "neuroid", "neuroid_id", "time_bin", "latent"),
        *("thread", "generation", "kind", "stimulus_id", "repeat", "onset_s", "numbers", "texts"),
        *("subject", "seed", "closedloop_version", "image_bits", "channels", "frames", "rate_hz", "classes"),
        *("evolution", "evolution_thread", "generator", "generator_sha256", "generator_recipe", "optimizer"),
        *("objective", "plane", "theta_deg", "phi_deg", "clipped", "tv", "spectral_slope", "high_frequency"),
        *("natural_distance", "code_norm", "code_at_bound", "rgb", "run_seed", "failure", "best_response"),
        *("proposed_by", "forwards", "forward_equivalents", "feature_distance", "curve_cost", "curve_response"),
    }
)


@dataclass(frozen=True)
class Units(Readable):
    """What a subject records: one value for each unit, in the order of the response columns.

    Attributes:
        neuroid_id: Unique names, for instance ``"lite0.blocks.3.17"``: texts of one line.
        coords: Further columns by name (``layer``, ``channel``, ``y``, ``x``, ``rf_size`` …), each as long as
            `neuroid_id`, of texts or real numbers (NaN for an unknown one); mixed ones become texts. They become
            coordinates on the dimension ``neuroid`` of a recording, so the names in `RECORDED` are taken. Those that
            take time are `LateColumns`: a recording asks for them after its first images were shown.

    Raises:
        InvalidArgumentError: A name cannot stand in a recording, or a column is none.
    """

    neuroid_id: tuple[str, ...]
    coords: Mapping[str, tuple[Any, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "neuroid_id", as_names("units: neuroid_id", self.neuroid_id))
        if not isinstance(self.coords, Mapping):
            raise InvalidArgumentError(f"units: coords: expected columns by name, got {self.coords!r:.80}.")
        for name in as_names("units: names of coordinates", list(self.coords)):
            if name in RECORDED or not set(name).isdisjoint("/\\") or name.startswith((".", "__")):
                raise InvalidArgumentError(
                    f"units: coordinate {name!r}: a recording has something else of that name, or cannot hold it; give "
                    "it another name."
                )
        known = self.coords.known if isinstance(self.coords, LateColumns) else self.coords
        for name, column in known.items():
            _check_column(name, column, len(self.neuroid_id))

    def __len__(self) -> int:
        return len(self.neuroid_id)

    def _in_words(self) -> str:
        columns = ", ".join(self.coords)
        return f"{len(self):,}: {some(self.neuroid_id)}" + (f"; with {columns}" if columns else "")

    @classmethod
    def numbered(cls, name: str, count: int) -> Units:
        """Makes units without further facts, named ``"{name}.0"``, ``"{name}.1"`` and so on."""
        return cls(tuple(f"{name}.{i}" for i in range(count)), {})


def _check_column(name: str, column: Any, count: int) -> None:
    """Raises unless a column of units has a text for each of them, or a real number."""
    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__") or not hasattr(column, "__iter__"):
        raise InvalidArgumentError(f"units: coordinate {name!r}: expected a value for each unit, got {column!r:.80}.")
    if len(column) != count:
        raise InvalidArgumentError(f"units: coordinate {name!r} has {len(column)} entries for {count} units.")
    types = set(map(type, column))
    plain = (str, NoneType, int, float, np.integer, np.floating, np.bool_)
    if not all(issubclass(kind, plain) for kind in types):
        raise InvalidArgumentError(
            f"units: coordinate {name!r}: expected texts or real numbers, got entries of the types "
            f"{', '.join(sorted(kind.__name__ for kind in types))}; NaN stands for an unknown number."
        )
    if str in types and not is_plain("".join(text for text in column if isinstance(text, str))):
        raise InvalidArgumentError(f"units: coordinate {name!r}: expected texts of one line that a file can hold.")


@runtime_checkable
class Presenting(Capability, Protocol):
    """A capability of subjects: a rig, which is given a whole block and says what became of each presentation.

    It is a `Subject` as well: `record` is for whoever knows of images alone.
    """

    def present(self, asked: Asked) -> Answers:
        """Shows a block; returns when all of it was shown, or given up."""
        ...


@runtime_checkable
class Differentiable(Capability, Protocol):
    """A capability of some subjects and generators: a torch forward pass that keeps the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Turns images into responses (subject), or codes into images (generator), shapes as in the plain call.

        Codes come on the device of a subject that is `Located`, images on that of the codes or of the generator.
        """
        ...


@runtime_checkable
class Layered(Capability, Protocol):
    """A capability of subjects: the same network can be recorded at other layers and units."""

    def at(self, layer: str | Sequence[str], units: Any = "all") -> Subject:
        """Returns it as it records these units of these layers; see `closedloop.objectives.naming_units`."""
        ...


@runtime_checkable
class Narrowing(Capability, Protocol):
    """A capability of subjects: what its units do not see of an image need not be computed."""

    def narrowed(self) -> Subject:
        """Returns a subject that answers alike and computes no more than its units see; itself if that is no less."""
        ...


@runtime_checkable
class Stateful(Capability, Protocol):
    """A capability: something whose next answer depends on what came before can be saved and brought back exactly."""

    def state(self) -> State:
        """Returns a tree of plain values and arrays that holds all that is needed to go on identically."""
        ...

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        ...


@runtime_checkable
class Resolved(Capability, Protocol):
    """A capability of subjects: it works at a resolution of its own, to which a generator can be matched."""

    @property
    def resolution(self) -> int:
        """Height and width of its images in pixels."""
        ...


#: Height and width in pixels that a subject without a resolution of its own is shown.
RESOLUTION = 224
#: Evolved presentations of a thread, and codes of an optimizer that plans with a budget, where nothing was said.
BUDGET = 4000


def resolution_of(subject: Subject, default: int = RESOLUTION) -> int:
    """Returns height and width in pixels of what a subject sees; the default for one without its own resolution."""
    return subject.resolution if isinstance(subject, Resolved) else default


@runtime_checkable
class Channelled(Capability, Protocol):
    """A capability of subjects and generators: it says whether its images are of colours or grey.

    Without it they are of colours.
    """

    @property
    def channels(self) -> int:
        """3 for red, green and blue; 1 for grey."""
        ...


@runtime_checkable
class Moving(Capability, Protocol):
    """A capability of subjects and generators: it says whether its images are stills or movies.

    Without it they are stills.
    """

    @property
    def frames(self) -> int | None:
        """Pictures of each movie; None for stills."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Pictures per second; None for stills."""
        ...


def form_of(part: Subject | Generator) -> Form:
    """Returns what a subject is shown, or a generator makes; colour stills where it does not say.

    Raises:
        InvalidArgumentError: It says something that no stimulus is.
    """
    channels = part.channels if isinstance(part, Channelled) else STILL.channels
    frames, rate_hz = (part.frames, part.rate_hz) if isinstance(part, Moving) else (None, None)
    if (channels, frames, rate_hz) == (3, None, None):
        return STILL
    try:
        return Form(channels, frames, rate_hz)
    except InvalidArgumentError as error:
        kind = "generator" if isinstance(part, Generator) else "subject"
        raise InvalidArgumentError(f"{kind} {part.name!r}: {error}") from error


@runtime_checkable
class Located(Capability, Protocol):
    """A capability of subjects: it runs on a device of torch, where a generator's images can be made, too."""

    @property
    def torch_device(self) -> str:
        """Such as "cpu" or "cuda:0"."""
        ...


@runtime_checkable
class Described(Capability, Protocol):
    """A capability: something that was loaded by name knows how to be loaded again."""

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """``{"name": …, **options}`` for the matching ``load_…`` function; None where it was built by hand."""
        ...


@runtime_checkable
class Fingerprinted(Capability, Protocol):
    """A capability: something whose answers are decided by weights can tell them from other weights."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all that decides its answers: its weights and its options."""
        ...


class OpenedLayer(Protocol):
    """A layer of a classifier, and what its outputs become when a channel of it is held still.

    Arrays are numpy float32; images are ``(n, 3, h, w)``, RGB in [0, 1]. A layer's output is ordered as channels and
    places: rows and columns of a map, tokens, or one place.
    """

    @property
    def layer(self) -> str:
        """Its name."""
        ...

    @property
    def channels(self) -> int:
        """Number of its channels."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of its places: of a map; of tokens (1, tokens); of a layer without any (1, 1)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What the outputs are called; "" for one without a name."""
        ...

    def look(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the layer's output ``(n, channels, places)``, and that of the network ``(n, classes)``."""
        ...

    def attributions(self, images: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns activation times gradient of chosen outputs ``(n, k)``, summed over places: ``(n, k, channels)``."""
        ...

    def ablated(
        self, image: NDArray[np.float32], means: NDArray[np.float32], channels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Returns outputs for one image with one channel at a time set to its means: ``(len(channels), classes)``.

        Args:
            image: ``(3, h, w)``.
            means: Of each channel at each place, ``(channels, places)``.
            channels: Which ones.
        """
        ...


@runtime_checkable
class Openable(Capability, Protocol):
    """A capability of subjects: networks into whose layers one can look, and reach."""

    def opened(self, layer: str | None = None) -> OpenedLayer:
        """Opens a layer by its name; None for the last one with places, or where none has any the last hidden one.

        Raises:
            ClosedLoopError: There is no such layer, or the network is none that gives a number for each class.
        """
        ...


@runtime_checkable
class Wrapping(Capability, Protocol):
    """A capability of subjects: one around another, such as noise, which changes what that one answers."""

    @property
    def subject(self) -> Subject:
        """The subject inside."""
        ...


@runtime_checkable
class Answering(Capability, Protocol):
    """A capability of subjects: networks whose answer can be recorded, whatever layer they record."""

    def answering(self) -> Subject:
        """Returns the same network, with all of its outputs as units."""
        ...


@runtime_checkable
class Encoding(Capability, Protocol):
    """A capability of generators: a first guess of the code of an image."""

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], of any size, into codes ``(n, dim)`` of images like them."""
        ...


@runtime_checkable
class Optimizer(Capability, Protocol):
    """Proposes codes and learns only from their scores. It maximizes.

    The calls alternate: `ask`, then `tell` with those codes. `tell` never changes its arguments, and takes NaN
    scores (lost presentations).
    """

    @property
    def name(self) -> str:
        """A short name for records."""
        ...

    @property
    def needs_gradient(self) -> bool:
        """Whether `tell` needs the gradient of the scores with respect to the codes."""
        ...

    @property
    def space(self) -> Space:
        """Where it searches."""
        ...

    def ask(self) -> FloatArray:
        """Returns the next codes to try, ``(n, dim)``; the same again until they are told, then n may change."""
        ...

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Learns from the scores ``(n,)`` of the codes ``(n, dim)`` of the last `ask`."""
        ...

    def state(self) -> State:
        """Returns all that is needed to go on identically, the random generator included."""
        ...

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        ...


@runtime_checkable
class Finite(Capability, Protocol):
    """A capability of optimizers: it knows by itself when it is done."""

    @property
    def finished(self) -> bool:
        """Whether it has taken all of its steps; asked again it gives its last codes."""
        ...


@runtime_checkable
class Recommending(Capability, Protocol):
    """A capability of optimizers: it says which codes it takes for the best, whatever their noisy scores."""

    def recommend(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes, best first, ``(≤ n, dim)``; none before it has learnt anything."""
        ...


@runtime_checkable
class Budgeted(Capability, Protocol):
    """A capability of optimizers: they plan with the number of codes that they may ask for in all."""

    @property
    def budget(self) -> int | None:
        """The codes that it was told it may ask for; None as long as nobody has said it."""
        ...

    def plan(self, images: int) -> None:
        """Plans with a budget of `images` codes, at least 1; before the first `ask`."""
        ...


@runtime_checkable
class Sighted(Capability, Protocol):
    """A capability of optimizers: they look at the images of codes, and not at their scores alone.

    A session calls `see` once, before the first `ask`, or before `restore` where it goes on. What was seen is no part
    of the saved state: that holds codes and scores, of which images are made again.
    """

    def see(self, generator: Generator) -> None:
        """Takes the generator that turns its codes into the images that are shown."""
        ...


@runtime_checkable
class Attributing(Capability, Protocol):
    """A capability of optimizers: they say of codes how they were found, where they have more than one way."""

    def proposers(self, codes: FloatArray) -> list[str]:
        """Returns a word for each of the codes ``(n, dim)``, such as "twin" or "codes"; "" for one not of its own."""
        ...


@runtime_checkable
class Objective(Capability, Protocol):
    """What is to be maximized: responses ``(n, units[, time])`` -> scores ``(n,)``. NaN in, NaN out."""

    def __call__(self, responses: Any) -> Any:
        """Returns the scores of numpy responses, or of torch responses with their graph."""
        ...

    def describe(self) -> str:
        """Returns its text, which `closedloop.objectives.parse_objective` reads back."""
        ...


@runtime_checkable
class ImageTextModel(Capability, Protocol):
    """What maps images and texts into one space, such as CLIP; a small adapter of the user's is enough.

    Features need not be normalized.
    """

    def image_features(self, images: Any) -> Any:
        """Turns images, a tensor ``(n, 3, h, w)``, RGB in [0, 1], into features ``(n, d)`` with their graph."""
        ...

    def text_features(self, texts: Sequence[str]) -> Any:
        """Turns texts into features, a tensor ``(m, d)``."""
        ...


@runtime_checkable
class View(Capability, Protocol):
    """Shows pictures of images; same random generator, same pictures."""

    @property
    def copies(self) -> int:
        """Pictures made of each image."""
        ...

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into pictures ``(n * copies, 3, h', w')``, an image's adjacent.

        Args:
            images: With their graph, in any floating-point type.
            step: How many gradients were taken before, for views that change on the way.
            rng: Where all of its random numbers come from.
        """
        ...

    def describe(self) -> str:
        """Returns its text; `parse_view` reads back those of the views here."""
        ...
