"""How ONNX Runtime is begun, everywhere alike."""

from __future__ import annotations

from typing import Any


def session_options(threads: int | None = None) -> Any:
    """Returns the options of a session of ONNX Runtime, whose messages are raised and not printed.

    Its threads sleep when they have nothing to do. By default they spin for a while, and generator and subject, which
    take turns, would each take the processor from the other: with two cores and 12 images at a time 60 images a second
    instead of 100, while a subject alone is as fast either way.

    Args:
        threads: How many compute; 0 for one on each core, None for what ONNX Runtime takes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised
    return options
