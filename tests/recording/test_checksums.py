"""Checksums of files: what counts, and what is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.recording.checksums import ChecksumFile, Sum, check_files, read_sums, sums_of


def test_of_a_known_text():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert Sum.of("a/b", b"") == Sum("a/b", 0, 0, empty)
    assert Sum.of("a/b", b"abc") == Sum("a/b", 3, 3, abc)
    longer = Sum.of("a/b", b"abcdef", 3)
    assert longer == Sum("a/b", 3, 6, abc)
    assert longer.line() == f"{abc} 3 6 a/b\n"
    assert longer.fits(b"abcxyzw")
    assert not longer.fits(b"abc")
    assert not longer.fits(b"abdefg")


@given(st.lists(st.tuples(st.lists(st.sampled_from("abc")), st.booleans()), max_size=6))
def test_only_what_was_kept_counts(tmp_path_factory, writings):
    """Whatever was written in between and lost its pointer, and whenever the file was opened again."""
    path = tmp_path_factory.mktemp("sums") / "CHECKSUMS"
    file, expected, mark = ChecksumFile(path), {}, None
    for number, (names, kept) in enumerate(writings):
        sums = [Sum.of(name, f"{name}{number}".encode()) for name in names]
        file.write(sums)
        if kept:
            mark = file.mark
            file.keep()
            expected |= {entry.path: entry for entry in sums}
            assert read_sums(path, mark) == expected
        elif number % 2:
            file = ChecksumFile(path, mark)
    if mark is not None:
        assert read_sums(path, mark) == expected


def test_a_file_that_is_not_what_the_mark_says(tmp_path):
    path = tmp_path / "CHECKSUMS"
    file = ChecksumFile(path)
    file.write([Sum.of("a", b"1")])
    mark = file.mark
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="CHECKSUMS is cut short or was changed"):
        read_sums(path, mark)
    with pytest.raises(ValueError, match="CHECKSUMS is cut short or was changed"):
        ChecksumFile(path, mark)


def test_files_of_a_store(tmp_path):
    (tmp_path / "x" / "c").mkdir(parents=True)
    for name in ("zarr.json", "x/zarr.json", "x/c/0"):
        (tmp_path / name).write_text(name)
    sums = {entry.path: entry for entry in sums_of(tmp_path)}
    assert set(sums) == {"zarr.json", "x/zarr.json", "x/c/0"}
    check_files(tmp_path, sums)
    (tmp_path / "x" / "c" / "0").write_text("x/c/0 and more")
    check_files(tmp_path, sums)
    (tmp_path / "x" / "c" / "0").write_text("x")
    with pytest.raises(ValueError, match="x/c/0 is cut short: 1 of 5 bytes"):
        check_files(tmp_path, sums)
    (tmp_path / "x" / "c" / "0").write_text("x/c/0")
    (tmp_path / "x" / "zarr.json").unlink()
    with pytest.raises(ValueError, match=r"x/zarr\.json is missing"):
        check_files(tmp_path, sums)
