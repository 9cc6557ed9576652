"""Spikes are committed with their rows: what a cut-off block left behind is never read, and nothing else is lost."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import RecordingError
from closedloop.interfaces import Units
from closedloop.presentations import Spikes
from closedloop.recording import store
from closedloop.recording.layout import Layout, Rows, TimeBins
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording

UNITS = Units(("a", "b"), {})
LAYOUT = Layout(400, 0, UNITS, {"subject": "s"}, {"block_number": ("int32", -1)})


def rows(block, n, rng, spikes=True, quality=True, bins=None):
    """A block of `n` presentations, with up to 30 spikes each."""
    number = rng.integers(0, 30, n) * (rng.random(n) < 0.8)
    offsets = np.append(0, np.cumsum(number))
    fired = Spikes(rng.random(offsets[-1]), rng.integers(0, 2, offsets[-1]).astype(np.int32), offsets)
    coords = {
        "thread": np.array(["t"] * n, object),
        "generation": np.full(n, block, np.int32),
        "kind": np.array(["evolved"] * n, object),
        "stimulus_id": np.array([f"{block}-{i}" for i in range(n)], object),
        "repeat": np.zeros(n, np.int32),
        "onset_s": np.arange(n, dtype=float),
        "block_number": np.full(n, block, np.int32),
    }
    shape = (n, 2) if bins is None else (n, 2, len(bins.start_s))
    return Rows(
        coords,
        rng.random(shape),
        np.empty((n, 0)),
        rng.random(n),
        spikes=fired if spikes else None,
        quality={"snr": rng.random(2)} if quality else {},
        bins=bins,
    )


def check(ds, written):
    """The recording holds these blocks, spike by spike."""
    assert ds.sizes["presentation"] == sum(map(len, written))
    np.testing.assert_array_equal(ds.spike_time_s, np.concatenate([r.spikes.time_s for r in written]))
    np.testing.assert_array_equal(ds.spike_unit, np.concatenate([r.spikes.unit for r in written]))
    whole = Spikes.join([r.spikes for r in written])
    np.testing.assert_array_equal(ds.spike_start, whole.offsets[:-1])
    np.testing.assert_array_equal(ds.spike_count, np.diff(whole.offsets))
    np.testing.assert_array_equal(ds.unit_snr, [r.quality["snr"] for r in written])
    np.testing.assert_array_equal(ds.unit_number, [0, 1])


@pytest.mark.parametrize("seed", range(6))
def test_blocks_that_are_cut_off_leave_nothing(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_SPIKES_OF_CHUNK", 64)
    rng, written = np.random.default_rng(seed), []
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    put = Recording._put_pointer
    for attempt in range(14):
        made, fails = rows(len(written), int(rng.integers(1, 9)), rng), rng.random() < 0.4
        with monkeypatch.context() as broken:
            if fails:  # all is written, and the pointer is not
                broken.setattr(Recording, "_put_pointer", _dies)
                with pytest.raises(KeyboardInterrupt, match="power"):
                    recording.append(made, {"attempt": attempt})
            else:
                recording.append(made, {"attempt": attempt})
                written.append(made)
        assert Recording._put_pointer is put
        if written:
            check(open_recording(tmp_path / "run"), written)
            if fails or rng.random() < 0.3:  # another process goes on
                recording.close()
                recording = Recording.reopen(tmp_path / "run")
    recording.close()
    files = {path.name for path in (tmp_path / "run" / "data.zarr" / "spike_time_s").iterdir()}
    assert len(files) > 3


def _dies(self, path):
    raise KeyboardInterrupt("power")


def test_in_memory_it_is_the_same(tmp_path):
    written = [rows(k, 5, np.random.default_rng(k)) for k in range(4)]
    recording = Recording.create(None, LAYOUT, {})
    for made in written:
        recording.append(made, {})
    check(recording.dataset(), written)


def test_a_damaged_spike_is_an_error(tmp_path):
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    recording.append(rows(0, 8, np.random.default_rng(0)), {})
    recording.close()
    chunk = tmp_path / "run" / "data.zarr" / "spike_time_s" / "c.0"
    content = bytearray(chunk.read_bytes())
    content[3] ^= 1
    chunk.write_bytes(content)
    ds = open_recording(tmp_path / "run")
    with pytest.raises(RecordingError, match=r"spike_time_s/c.0 is damaged"):
        ds.spike_time_s.load()


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_spikes_do_not_begin_or_end_in_the_middle(first, then, tmp_path):
    rng = np.random.default_rng(0)
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    recording.append(rows(0, 3, rng, spikes=first), {})
    with pytest.raises(RecordingError, match=r"expected (no spikes|spike_\w+ in every block), as before"):
        recording.append(rows(1, 3, rng, spikes=then), {})
    recording.close()
    assert open_recording(tmp_path / "run").sizes["presentation"] == 3


def test_no_spike_at_all(tmp_path):
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    for block in range(2):
        made = rows(block, 3, np.random.default_rng(0))
        none = Spikes(np.empty(0), np.empty(0, np.int32), np.zeros(4, np.int64))
        recording.append(Rows(**{**vars(made), "spikes": none}), {})
    recording.close()
    assert open_recording(tmp_path / "run").sizes["spike"] == 0


def test_bins_are_kept_with_the_first_block(tmp_path):
    bins = TimeBins(np.array([0.0, 0.1]), np.array([0.1, 0.2]))
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    recording.append(rows(0, 3, np.random.default_rng(0), bins=bins), {})
    recording.close()
    ds = open_recording(tmp_path / "run")
    assert ds.time_bin_start.values.tolist() == [0, 100]
    assert ds.time_bin_end.values.tolist() == [100, 200]
    assert ds.time_bin_width.values.tolist() == [100, 100]
