"""The loop closes: a network is trained, diagnosed, treated by what was seen, and the treatment is judged over seeds.

A corner of scikit-learn's digits goes with the class 8 in training alone. Nobody tells the diagnosis.

python examples/treat_and_judge.py [SEEDS]
"""

import sys

from closedloop import open_recording
from closedloop.analysis import spurious_units
from closedloop.protocols import judge, treat

seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3

found = treat(treatment="evolved", save="runs/treated", exists="resume", progress=True)
units = spurious_units(open_recording("runs/treated/diagnosis"))
print(units[["unit", "class_name", "turned", "turned_control", "spurious"]].to_dataframe())
before, after = (found.isel(measurement=found["phase"] == phase)["worst"].values[-1] for phase in ("before", "treated"))
print(f"accuracy in the worst group: {100 * before:.1f} % before, {100 * after:.1f} % after the treatment")

judged = judge(treatments=("none", "reweight", "evolved"), seeds=seeds, progress=True)
print(judged[["worst", "worst_gain", "worst_gain_low", "worst_gain_high"]].to_dataframe())
