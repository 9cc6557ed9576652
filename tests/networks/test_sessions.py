"""How sessions of ONNX Runtime are begun."""

import re
from pathlib import Path

import pytest

from closedloop.networks.sessions import session_options

onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("threads", "expected"), [(None, onnxruntime.SessionOptions().intra_op_num_threads), (2, 2)])
def test_threads_that_have_nothing_to_do_sleep(threads, expected):
    options = session_options(threads)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == expected


def test_every_session_is_begun_with_them():
    for room in ("closedloop", "subjects", "generators", "protocols"):
        for path in (ROOT / room).rglob("*.py"):
            assert path.name == "sessions.py" or not re.search(r"\bSessionOptions\(", path.read_text()), path
