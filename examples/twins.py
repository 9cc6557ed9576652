"""A recorded session, a twin of it, the twin's images, and their verification on the subject itself.

    python examples/twins.py [FOLDER]

The subject is a noisy unit of lite0; the twin reads the same network and is a close relative for that reason. Take a
network of another family for an honest number.
"""

import sys
from pathlib import Path

import numpy as np

import closedloop
from closedloop.analysis import proposers, verification
from closedloop.generators import load_generator
from closedloop.protocols import ascend, evolve, verify
from closedloop.report import write_report
from closedloop.subjects import load_subject
from closedloop.twins import fit_twin

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "twins-example")
network = {"name": "lite0", "units": "292", "engine": "auto"}
subject = load_subject("gain", subject=network, nu=0.5, seed=1)
generator = load_generator("native", resolution=224)

# 1. Record: an evolution, which learns from codes alone.
optimizer = closedloop.load_optimizer("auto", generator.space, seed=1)
recording = evolve(subject, generator, optimizer, images=500, seed=1, save=folder / "evolved")

# 2. Fit: a model of what was answered. `within` and the control with random weights say whether it knows the image.
twin = fit_twin(closedloop.open_recording(folder / "evolved"), features="lite0").save(folder / "twin")
print(twin.table[["r", "within", "ceiling", "normalized"]].to_dataframe())

# 3. Synthesize: gradients are those of the twin.
made = ascend(twin, generator, "adam", unit=[0], steps=60, progress=False)
images = made["image"].transpose("unit", "rgb", "row", "col").values.astype(np.float32)

# 4. Verify: only now the subject is asked, in fresh presentations, beside controls.
confirmed = verify(subject, images, [0], twin=twin, recording=recording, save=folder / "verified")
print(verification(confirmed)[["predicted", "confirmed", "gap", "beyond_natural"]].to_dataframe())
write_report([folder / "verified"], folder / "verified.html")

# 5. The same in one session: a twin that is fitted on the way proposes a part of the images; the report says which.
eyes = closedloop.load_optimizer("auto", generator.space, seed=1, features="lite0")
seen = evolve(subject, generator, eyes, images=200, seed=1, save=folder / "seen")
print(closedloop.summarize(seen)[0], proposers(seen).to_dataframe(), sep="\n")
write_report([folder / "evolved", folder / "seen", folder / "verified"], folder / "report.html")
