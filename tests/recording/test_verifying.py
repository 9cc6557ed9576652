"""A whole run is read and compared; what each damage does stands in `test_damage.py`."""

import pytest

from closedloop.errors import RecordingError
from closedloop.recording import verify
from tests.recording.test_writer import written


def test_a_run_and_what_is_lost_of_it(tmp_path):
    folder = written(tmp_path / "run")
    assert verify(folder) == 8
    (folder / "experiment.yaml").unlink()
    with pytest.raises(RecordingError, match=r"experiment\.yaml is missing; restore it from a copy"):
        verify(folder)
