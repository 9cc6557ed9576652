"""Turns stimuli into the form that a subject is shown: colour or grey, still or movie.

There is one rule, applied where stimuli come to a subject (`closedloop.loop.presenter`):

* a colour image for a grey subject becomes its luminance (`luminance`), a grey one for a colour subject is repeated for
  red, green and blue;
* a still for a subject of movies is held for all frames;
* a movie for a subject of stills, or one of other frames or of another rate, is an error.
"""

from __future__ import annotations

from typing import Any

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Form

#: Luminance of red, green and blue as they stand in a file (Rec. ITU-R BT.601); they sum to 1.
REC_601 = (0.299, 0.587, 0.114)


def luminance(images: Any) -> Any:
    """Returns colours ``(…, 3, h, w)``, RGB in [0, 1], as luminance ``(…, 1, h, w)`` by Rec. 601; numpy or torch."""
    red, green, blue = REC_601
    grey = red * images[..., 0:1, :, :] + green * images[..., 1:2, :, :] + blue * images[..., 2:3, :, :]
    return grey.clip(0, 1)  # the sum of the weights may round to above 1


def recoloured(images: Any, channels: int) -> Any:
    """Returns images ``(…, 1 or 3, h, w)``, numpy or torch, with so many channels; the same object if they fit."""
    if images.shape[-3] == channels:
        return images
    return luminance(images) if channels == 1 else images[..., [0, 0, 0], :, :]


def shown_as(images: Any, form: Form) -> Any:
    """Returns stimuli as a subject of this form is shown them, by the rule of this module; numpy or torch.

    Args:
        images: ``(n, channels, h, w)`` or ``(n, frames, channels, h, w)`` in [0, 1].
        form: What the subject is shown.

    Returns:
        Of that form; the same object if they are so already.

    Raises:
        InvalidArgumentError: Movies for a subject of stills, or of another number of frames.
    """
    if images.ndim == 5 and images.shape[1] != form.frames:
        _refuse("images", f"movies of {images.shape[1]} frames", form)
    coloured = recoloured(images, form.channels)
    if form.frames is None or images.ndim == 5:
        return coloured
    return coloured[:, None][:, [0] * form.frames]


def check_forms(what: str, made: Form, shown: Form) -> None:
    """Raises unless stimuli of one form can be shown to a subject of another.

    Args:
        what: Whose they are, for the error.
        made: What they are.
        shown: What the subject is shown.

    Raises:
        InvalidArgumentError: Movies for a subject of stills, or of another length or rate.
    """
    if made.frames is not None and (made.frames, made.rate_hz) != (shown.frames, shown.rate_hz):
        _refuse(what, made.describe(), shown)


def _refuse(what: str, got: str, shown: Form) -> None:
    """Raises the error that names the form that was expected, and how to come by it."""
    if shown.frames is None:
        cure = "take a generator or images that are stills, or a subject that is shown movies."
    else:
        cure = f"make them with frames={shown.frames} and rate_hz={shown.rate_hz:g}."
    raise InvalidArgumentError(f"{what}: expected stimuli for a subject of {shown.describe()}, got {got}; {cure}")
