"""What remains of an experiment: written generation by generation, read at any time."""

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.recording.packing import pack
    from closedloop.recording.reader import open_recording, read_experiment, read_pointer
    from closedloop.recording.verifying import verify
    from closedloop.recording.writer import Recording

__getattr__ = late_import(
    __name__,
    {
        "Recording": "writer",
        "open_recording": "reader",
        "pack": "packing",
        "read_experiment": "reader",
        "read_pointer": "reader",
        "verify": "verifying",
    },
)

__all__ = ["Recording", "open_recording", "pack", "read_experiment", "read_pointer", "verify"]
