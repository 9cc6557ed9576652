"""Sweeps: every run as if it were alone, whatever dies, and whoever else works on the same plan."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from closedloop import catalogue, open_recording
from closedloop.errors import InvalidArgumentError
from closedloop.images import write_png
from closedloop.loop.protocol import protocol_of
from closedloop.protocols import sweep
from closedloop.protocols.sweep_local import LocalWorkers
from closedloop.protocols.sweep_runs import BUSY, DONE, FAILED, Outcome, do_run, failure_of, mark_of
from closedloop.protocols.sweep_work import (
    Standing,
    SweepMeter,
    drive,
    hired,
    read_plan,
    remaining,
    run_one,
    standing,
    write_runs,
)
from closedloop.recording.reader import check_kept
from closedloop.recording.writer import Recording

GABOR = {"name": "gabor", "resolution": 16, "count": 4, "seed": 1}
SMALL = {
    "subject": GABOR,
    "generator": {"name": "fourier", "cutoff": 2},
    "optimizers": [{"name": "isotropic", "population": 6}, {"name": "random", "population": 5}],
    "images": 30,
    "references": "none",
    "retest_candidates": 2,
    "retest_repeats": 2,
    "units": "0-1",
    "seeds": [0],
}
#: What of a run is compared: all but how long it took.
SAME = ("responses", "score", "latent_code", "stimulus_id", "generation")


def quiet(content, out, **options):
    return sweep(content, out, progress=False, **{"workers": 0, **options})


def assert_as_alone(plan, tmp_path):
    """Compares each run of a sweep with the same run done by itself."""
    for number, run in enumerate(plan.runs):
        alone = protocol_of(run.content, "").begin(run.content, tmp_path / f"alone-{number}", lambda images: None)
        found = open_recording(plan.out / run.place)
        assert found.attrs["finished"] == 1
        for name in SAME:
            np.testing.assert_array_equal(found[name].values, alone[name].values)


def test_a_sweep_does_all_of_its_runs(tmp_path):
    result = quiet(SMALL, tmp_path / "s")
    assert (result.done, result.total, result.left, dict(result.failed)) == (4, 4, 0, {})
    plan = read_plan(SMALL, tmp_path / "s")
    assert_as_alone(plan, tmp_path)
    table = catalogue(tmp_path / "s")
    assert sorted(table["path"]) == sorted(run.place for run in plan.runs)
    assert set(table["state"]) == {"finished"}


def test_what_is_done_is_left_alone_and_what_is_new_is_added(tmp_path):
    quiet(SMALL, tmp_path / "s")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("COMMITTED.json")}
    result = quiet({**SMALL, "seeds": "0-1"}, tmp_path / "s")
    assert result.done == result.total == 8
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_the_folder_lists_its_runs_and_goes_on_by_itself(tmp_path):
    plan = read_plan(SMALL, tmp_path / "s")
    write_runs(plan)
    assert [r.id for r in read_plan(tmp_path / "s").runs] == [r.id for r in plan.runs]
    assert run_one(read_plan(tmp_path / "s"), "3").state == DONE
    assert run_one(plan, plan.runs[2].id[:12]).state == DONE
    assert len(remaining(plan)) == 2
    with pytest.raises(InvalidArgumentError, match="only: expected a number below 4"):
        run_one(plan, "4")
    with pytest.raises(InvalidArgumentError, match="only: expected the name of one run"):
        run_one(plan, "")
    with pytest.raises(InvalidArgumentError, match=r"cannot read .* as the runs of a sweep"):
        read_plan(tmp_path / "nothing.jsonl")


def test_a_plan_is_a_file_whose_folder_is_beside_it(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "out": "there"}))
    assert read_plan(file).out == tmp_path / "there"
    file.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(InvalidArgumentError, match="out: expected the folder of the sweep"):
        read_plan(file)


def test_runs_share_their_references(tmp_path):
    """One copy on the disk of what all of them keep; each run is whole."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        write_png(pictures / f"{number}.png", rng.random((3, 16, 16), dtype=np.float32))
    result = quiet({**SMALL, "references": str(pictures)}, tmp_path / "s")
    assert result.done == 4
    files = [p for p in (tmp_path / "s").rglob("references/*") if p.suffix == ".png"]
    assert len(files) == 12
    assert len({file.stat().st_ino for file in files}) == 3
    assert {file.stat().st_nlink for file in files} == {5}  # of four runs, and the one that is shared
    for run in read_plan({**SMALL, "references": str(pictures)}, tmp_path / "s").runs:
        check_kept(tmp_path / "s" / run.place)
    assert not list((tmp_path / "s").rglob("*.partial"))
    assert len(catalogue(tmp_path / "s")) == 4


# Failures -------------------------------------------------------------------------------------------------------------


def test_a_run_that_fails_does_not_end_the_sweep(tmp_path):
    content = {**SMALL, "units": "0,9"}  # there is no unit 9
    result = quiet(content, tmp_path / "s")
    assert (result.done, len(result.failed)) == (2, 2)
    assert all("9" in why for why in result.failed.values())
    again = quiet(content, tmp_path / "s")
    assert dict(again.failed) == dict(result.failed)  # known from its mark, and not tried again
    assert len(quiet(content, tmp_path / "s", retry=True).failed) == 2


def test_a_run_is_tried_again_when_that_is_asked_for(tmp_path):
    plan = read_plan(SMALL, tmp_path / "s")
    broken = tmp_path / "s" / plan.runs[2].place
    broken.mkdir(parents=True)
    (broken / "something").write_text("of somebody else")
    result = quiet(SMALL, tmp_path / "s")
    assert list(result.failed) == [plan.runs[2].id]
    assert "holds something" in failure_of(broken)
    (broken / "something").unlink()
    assert quiet(SMALL, tmp_path / "s").failed
    result = quiet(SMALL, tmp_path / "s", retry=True)
    assert (result.done, dict(result.failed)) == (4, {})
    assert not mark_of(broken).exists()


def test_a_mark_that_is_damaged_still_says_that_it_failed(tmp_path):
    mark_of(tmp_path / "run").write_text("{")
    assert "damaged" in failure_of(tmp_path / "run")
    assert failure_of(tmp_path / "other") == ""


def test_bugs_of_others_are_failures_with_their_place(tmp_path):
    content = {"protocol": "evolve", "subject": {"name": "gabor", "count": "x"}, "generator": {"name": "fourier"}}
    outcome = do_run("a", content, tmp_path / "run")
    assert outcome.state == FAILED
    assert "count" in outcome.reason


# Others at work -------------------------------------------------------------------------------------------------------


def test_a_run_that_another_process_writes_is_left_to_it(tmp_path):
    plan = read_plan(SMALL, tmp_path / "s")
    folder = plan.out / plan.runs[0].place
    assert run_one(plan, "0").state == DONE
    (folder / "COMMITTED.json").unlink()  # as if it had only begun
    held = Recording.reopen(folder)
    assert do_run("0", plan.runs[0].content, folder).state == BUSY
    held.close()
    assert do_run("0", plan.runs[0].content, folder).state == DONE


def test_a_run_that_was_busy_is_taken_up_or_counted_later(tmp_path, monkeypatch):
    monkeypatch.setattr("closedloop.protocols.sweep_work._AGAIN_S", 0.05)
    plan = read_plan(SMALL, tmp_path / "s")

    class Others:
        """Workers of which another process holds the first run twice."""

        def __init__(self):
            self.words, self.refused = [], 2
            self.room = 1

        def start(self, run, folder):
            if run.id == plan.runs[0].id and self.refused:
                self.refused -= 1
                self.words.append((run.id, Outcome(run.id, BUSY)))
            else:
                self.words.append((run.id, do_run(run.id, run.content, folder)))

        def hear(self, seconds):
            words, self.words = self.words, []
            return words

        def close(self):
            pass

    result = drive(plan, Others)
    assert (result.done, result.left) == (4, 0)


@pytest.mark.long
def test_two_sweeps_over_one_plan_at_once(tmp_path):
    """Each run is done once; both see all of them."""
    plan = read_plan({**SMALL, "images": 60, "seeds": "0-2"}, tmp_path / "s")
    results = []

    def one():
        results.append(drive(plan, lambda: LocalWorkers(1)))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [(r.done, dict(r.failed)) for r in results] == [(12, {})] * 2
    assert all(open_recording(plan.out / run.place).attrs["finished"] for run in plan.runs)


# Workers --------------------------------------------------------------------------------------------------------------


def test_workers_of_this_computer(tmp_path):
    result = quiet(SMALL, tmp_path / "s", workers=2)
    assert (result.done, dict(result.failed)) == (4, {})
    assert_as_alone(read_plan(SMALL, tmp_path / "s"), tmp_path)


@pytest.mark.long
def test_a_worker_that_dies_is_replaced_and_its_run_done_again(tmp_path):
    plan = read_plan({**SMALL, "images": 300, "units": "0", "seeds": [0]}, tmp_path / "s")
    killed = []

    hold = {}

    def hire():
        hold["workers"] = LocalWorkers(1)
        return hold["workers"]

    def told(where):
        if where.running and not killed:
            process = next(iter(hold["workers"]._working.values()), None)
            if process is not None and any(plan.out.rglob("COMMITTED.json")):
                process._process.kill()
                killed.append(1)

    result = drive(plan, hire, told=told, every_s=0.005)
    assert (result.done, dict(result.failed)) == (2, {})
    assert_as_alone(plan, tmp_path)


def test_a_run_that_kills_its_workers_fails_in_the_end(tmp_path):
    """A run over which one worker after another dies does not go on for ever."""
    plan = read_plan({**SMALL, "units": "0", "seeds": [0]}, tmp_path / "s")

    class Deadly:
        room = 1

        def __init__(self):
            self.words = []

        def start(self, run, folder):
            bad = run.id == plan.runs[0].id
            self.words.append((run.id, None if bad else do_run(run.id, run.content, folder)))

        def hear(self, seconds):
            words, self.words = self.words, []
            return words

        def why(self):
            return "Killed"

        def close(self):
            pass

    result = drive(plan, Deadly)
    assert result.done == 1
    assert "3 workers died over it" in result.failed[plan.runs[0].id]
    assert "3 workers died over it" in failure_of(plan.out / plan.runs[0].place)


@pytest.mark.long
def test_workers_end_with_the_program_that_began_them(tmp_path):
    """A sweep that is killed leaves nobody behind, and the same call goes on."""
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "images": 3000, "out": "s"}))
    code = f"from closedloop.protocols import sweep; sweep({str(file)!r}, workers=1, progress=False)"
    client = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not any(tmp_path.rglob("COMMITTED.json")) and time.monotonic() < until:
        time.sleep(0.02)
    children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
    client.send_signal(signal.SIGKILL)
    client.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.02)
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


# What a person sees ---------------------------------------------------------------------------------------------------


def test_how_far_it_is_is_said(tmp_path):
    plan = read_plan(SMALL, tmp_path / "s")
    said = []

    class Told:
        def __init__(self, word, total):
            said.append((word, total))

        def start(self, completed):
            said.append(completed)

        def move(self, completed, facts):
            said.append((completed, facts))

        def stop(self):
            said.append("stop")

    drive(plan, lambda: hired(None, 0), told=SweepMeter(plan, Told))
    assert said[0] == ("sweep", 120)
    assert said[1] == 0
    assert said[-2] == (120, "4 of 4 runs, 0 running")
    assert said[-1] == "stop"
    assert standing(plan).done == 4


@pytest.mark.parametrize(
    ("plans", "word", "total", "under_way"),
    [
        ([{"protocol": "lca", "steps": 40}, {"protocol": "lca", "steps": 60}], "sweep, steps", 100, 50),
        ([{"protocol": "lca", "steps": 40}, SMALL], "sweep, runs", 5, 1),
    ],
)
def test_trainings_are_counted_by_their_steps_or_beside_evolutions_by_runs(tmp_path, plans, word, total, under_way):
    plan, said = read_plan({"plans": plans}, tmp_path / "s"), []

    class Told:
        def __init__(self, *told):
            said.append(told)

        def start(self, completed):
            pass

        def move(self, completed, facts):
            said.append(completed)

    meter = SweepMeter(plan, Told)
    trained, other = (run.id for run in sorted(plan.runs, key=lambda run: (-bool(run.steps), run.steps))[:2])
    meter(Standing(len(plan.runs), done={trained: 40}, running={other: 10}))
    assert said == [(word, total), under_way]


def test_a_training_says_how_many_steps_it_has_taken(tmp_path):
    content = {"protocol": "lca", "data": "watermarked-digits", "network": "mlp", "steps": 3}
    (run,) = read_plan(content, tmp_path / "s").runs
    told = []
    protocol_of(run.content, "").begin(run.content, tmp_path / "run", told.append)
    assert (run.steps, told) == (3, [1, 2, 3])


@pytest.mark.parametrize(("treatments", "steps"), [(["reweight"], 60), (["none", "reweight"], 60)])
def test_steps_of_a_judgement_are_those_of_all_its_trainings(tmp_path, treatments, steps):
    """10 before any treatment and 5 under each of two, for three seeds."""
    settings = {"steps": 10, "more": 5, "every": 5, "treatments": treatments}
    content = {"protocol": "judge", **settings, "vary": {"seeds": [3]}}
    assert read_plan(content, tmp_path / "s").steps == steps


def test_marks_and_lists_are_json(tmp_path):
    quiet({**SMALL, "units": "9", "seeds": [0]}, tmp_path / "s")
    (mark, *_) = (tmp_path / "s").rglob("*.failed.json")
    assert json.loads(mark.read_text())["state"] == FAILED
    assert mark.parent.parent.parent == tmp_path / "s"


# Dask -----------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_workers_of_a_dask_cluster(tmp_path):
    pytest.importorskip("distributed")
    result = quiet(SMALL, tmp_path / "s", workers=2, scheduler="local")
    assert (result.done, dict(result.failed)) == (4, {})
    assert_as_alone(read_plan(SMALL, tmp_path / "s"), tmp_path)


def test_a_scheduler_elsewhere_without_tls_is_warned_of():
    pytest.importorskip("distributed")
    from closedloop.protocols.sweep_dask import check_address

    for fine in ("tls://head:8786", "tcp://127.0.0.1:8786", "tcp://127.3.2.1:8786", "[::1]:8786", "localhost:8786"):
        check_address(fine)
    with pytest.warns(UserWarning, match="reached without TLS: whoever can connect"):
        check_address("tcp://head:8786")


def test_a_cluster_with_slurm_has_workers_of_one_thread_by_tls(tmp_path):
    """The recipe of examples/slurm.py; no job is submitted."""
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("cryptography")
    place = Path(__file__).parents[2] / "examples" / "slurm.py"
    spec = importlib.util.spec_from_file_location("slurm_example", place)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with example.slurm("cpu", tmp_path, interface="lo", scheduler_options={"dashboard_address": None}) as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
    for words in ("#SBATCH -p cpu", "--cpus-per-task=8", "export OMP_NUM_THREADS=1", "--nthreads 1", "--nworkers 8"):
        assert words in script


@pytest.mark.long
def test_a_scheduler_that_is_lost_is_said_and_the_same_call_goes_on(tmp_path):
    pytest.importorskip("distributed")
    content = {**SMALL, "images": 3000}
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
         "--scheduler-file", str(tmp_path / "address.json"), "--no-dashboard"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "address.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        address = json.loads((tmp_path / "address.json").read_text())["address"]
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
             "--death-timeout", "5"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        plan = read_plan(content, tmp_path / "s")

        def told(where):
            if any(plan.out.rglob("COMMITTED.json")):
                scheduler.kill()

        with pytest.raises(InvalidArgumentError, match="scheduler: it is lost"):
            drive(plan, lambda: hired(address, 1), told=told)
        worker.kill()
        worker.wait()
    finally:
        scheduler.kill()
        scheduler.wait()
    small = read_plan(SMALL, tmp_path / "t")
    assert drive(small, lambda: hired(None, 0)).done == 4
