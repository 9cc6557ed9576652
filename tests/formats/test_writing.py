"""Files that appear complete or not at all."""

import pytest

from closedloop.errors import MissingExtraError, RecordingError, require
from closedloop.files import complete


@pytest.mark.parametrize("folder", [True, False])
def test_nothing_is_left_of_a_failure(tmp_path, folder):
    def write(path):
        (path.mkdir() if folder else path.write_text("half"))

    def fail():
        with complete(tmp_path / "new" / "x") as temporary:
            write(temporary)
            assert not (tmp_path / "new" / "x").exists()
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with complete(tmp_path / "new" / "x") as temporary:
        write(temporary)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x"]


def test_what_the_system_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(RecordingError, match=r"out: cannot write .*x \((File exists|Not a dir)"),
        complete(tmp_path / "file" / "x"),
    ):
        pass
    with pytest.raises(RecordingError, match=r"out: cannot write .*x \(No such file"), complete(tmp_path / "x"):
        pass  # nothing was written that could get its name


def test_a_missing_package_names_the_extra():
    assert require("json", "nwb", "a test").loads("1") == 1
    with pytest.raises(MissingExtraError, match=r"a test needs no_such_package.*pip install 'closedloop\[nwb\]'"):
        require("no_such_package", "nwb", "a test")
