"""Runs that a page asks for: a command line that was checked, a queue, an orderly end."""

from __future__ import annotations

import json
import sys
import time

import pytest

from closedloop.cli.building import subject_recipe
from closedloop.recording.reader import open_recording
from closedloop.subjects import FunctionSubject, GaborSubject, Lossy, Poisson, load_subject
from closedloop.viewer.asked import RequestError
from closedloop.viewer.jobs import WAITING, Jobs, command

GABOR = GaborSubject(resolution=32, count=2, seed=1)
#: Stands for the program: it waits as long as its images say.
SLEEPS = (sys.executable, "-c", "import sys, time; time.sleep(int(sys.argv[sys.argv.index('--images') + 1]))")
FAILS = (sys.executable, "-c", "import sys; sys.exit('Error: images: expected more.')")


def until(jobs, number, *states, seconds=20):
    end = time.monotonic() + seconds
    while jobs.find(number).state not in states:
        assert time.monotonic() < end, jobs.all()
        time.sleep(0.01)
    return jobs.find(number)


def test_the_command_line_is_what_a_person_would_type():
    words, title = command(GABOR, {"protocol": "evolve", "unit": 1, "images": 60, "optimizer": "nes", "seed": 3})
    assert words[0] == "evolve"
    assert words[1] == "--subject"
    assert json.loads(words[2])["name"] == "gabor"
    assert words[3:] == ["--objective", "unit(1)", "--images", "60", "--seed", "3", "--optimizer", "nes"]
    assert title == "evolve unit 1"


def test_layers_and_methods_of_a_network():
    pytest.importorskip("torch")
    words, title = command(
        load_subject("lite0"), {"protocol": "ascend", "layer": "blocks.4", "unit": "(30, 7, 7)", "method": "lucid"}
    )
    assert words[1:] == ["--subject", words[2], "--layer", "blocks.4", "--units", "(30, 7, 7)", "--method", "lucid"]
    assert json.loads(words[2])["name"] == "lite0"
    assert title == "ascend blocks.4 (30, 7, 7)"


def test_noise_is_passed_on_as_it_was_given():
    noisy = Lossy(Poisson(GABOR, spikes=3, best=1.0, seed=5), rate=0.1)
    words, _ = command(noisy, {"unit": 0, "seed": 2})
    assert words[3:] == [
        "--noise", "poisson:spikes=3.0:best=[1.0, 1.0]:seed=5", "--noise", "lossy:rate=0.1",
        "--objective", "unit(0)", "--seed", "2",
    ]  # fmt: skip
    given = {"subject": words[2], "noise": [words[4], words[6]], "seed": 2}
    again = load_subject(**subject_recipe(given))
    assert again.name == noisy.name
    assert again.subject.recipe == noisy.subject.recipe


def test_noise_of_a_layer_is_measured_for_its_units():
    pytest.importorskip("torch")
    noisy = Poisson(load_subject("lite0", engine="eager"), spikes=20, best=1.0)
    words, _ = command(noisy, {"protocol": "ascend", "layer": "blocks.4", "unit": 3})
    assert words[3:] == ["--noise", "poisson:spikes=20.0", "--layer", "blocks.4", "--units", "3"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"protocol": "sh"}, "protocol: expected one of evolve, ascend, got 'sh'"),
        ({"unit": 1, "steps": 3}, "steps: evolve takes no such entry"),
        ({"unit": 1, "images": 0}, "images: expected a whole number between 1 and 1000000"),
        ({"unit": 1, "images": "9; rm"}, "images: expected a whole number"),
        ({"unit": 1, "generator": "onnx:/etc/passwd"}, "generator: expected one of"),
        ({"unit": 1, "optimizer": ["nes"]}, "optimizer: expected one of"),
        ({"unit": "--help"}, "unit: expected the number of a unit"),
        ({"unit": None}, "unit: expected the number of a unit"),
        ({"unit": True}, "unit: expected the number of a unit"),
        ({"unit": "(1,2,3)"}, "unit: expected the number of a unit of gabor"),
        ({"protocol": "ascend", "unit": 1, "method": "--debug"}, "method: expected a name such as 'lucid'"),
    ],
)
def test_what_is_not_known_is_refused(asked, message):
    with pytest.raises(RequestError, match=message.replace("(", r"\(").replace(")", r"\)")):
        command(GABOR, asked)


def test_subjects_that_no_other_process_can_load():
    with pytest.raises(RequestError, match="which no other process can load"):
        command(FunctionSubject(lambda x: x[:, 0, :1, 0], 1), {"unit": 0})
    with pytest.raises(RequestError, match="which no other process can load"):
        command(Poisson(FunctionSubject(lambda x: x[:, 0, :1, 0], 1), spikes=3, best=1.0), {"unit": 0})
    with pytest.raises(RequestError, match="this viewer shows none"):
        command(None, {"unit": 0})


def test_one_at_a_time_in_their_order_and_cancelled(tmp_path):
    jobs = Jobs(GABOR, tmp_path / "runs", SLEEPS)
    first, second, third = (jobs.start({"unit": 0, "images": 100}) for _ in range(3))
    until(jobs, 1, "running")
    assert [job["state"] for job in jobs.all()] == ["queued", "queued", "running"]
    assert len({first.folder, second.folder, third.folder}) == 3
    jobs.cancel(second)
    jobs.cancel(first)
    until(jobs, 3, "running")
    assert [job["state"] for job in jobs.all()] == ["running", "cancelled", "cancelled"]
    jobs.close()
    assert third.process.wait(10) != 0
    with pytest.raises(RequestError, match="the viewer is ending"):
        jobs.start({"unit": 0})


def test_the_end_says_how_they_go_on(tmp_path, capsys):
    jobs = Jobs(GABOR, tmp_path / "runs", SLEEPS)
    jobs.start({"unit": 0, "images": 100})
    job = until(jobs, 1, "running")
    jobs.close()
    jobs.close()
    said = capsys.readouterr().err
    assert said.startswith("The viewer ended 1 run that it had started; what is finished is safe. Go on with:")
    assert said.count(f"closedloop resume {job.folder}") == 1
    assert job.state == "cancelled"


def test_a_failure_says_why(tmp_path):
    jobs = Jobs(GABOR, tmp_path / "runs", FAILS)
    jobs.start({"unit": 0})
    assert until(jobs, 1, "failed").error == "images: expected more."
    missing = Jobs(GABOR, tmp_path / "runs", ("/nowhere/program",))
    missing.start({"unit": 0})
    assert "No such file" in until(missing, 1, "failed").error


def test_no_run_is_begun_inside_a_run(tmp_path):
    (tmp_path / "experiment.yaml").write_text("seed: 0")
    with pytest.raises(RequestError, match="shows one run"):
        Jobs(GABOR, tmp_path, SLEEPS).start({"unit": 0})


def test_no_more_than_some_wait(tmp_path):
    jobs = Jobs(GABOR, tmp_path / "runs", SLEEPS)
    jobs.start({"unit": 0, "images": 100})
    until(jobs, 1, "running")
    for _ in range(WAITING):
        jobs.start({"unit": 0})
    with pytest.raises(RequestError, match="20 runs wait already"):
        jobs.start({"unit": 0})
    jobs.close()


@pytest.mark.long
def test_a_real_run_is_started(tmp_path):
    jobs = Jobs(GABOR, tmp_path / "runs")
    jobs.start({"unit": 1, "images": 60, "generator": "fourier", "optimizer": "isotropic", "seed": 2})
    job = until(jobs, 1, "finished", "failed", seconds=120)
    assert (job.state, job.error) == ("finished", "")
    assert open_recording(job.folder).attrs["finished"] == 1
    jobs.close()
