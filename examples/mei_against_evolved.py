"""A most exciting image by gradients (MEI; Walker et al. 2019) against one evolved without, under the same rule.

Both may show the subject so many images; both images are then judged in fresh presentations.

    python examples/mei_against_evolved.py [BUDGET]      # by default 1,000
"""

import sys

from closedloop.figures import plot_contenders
from closedloop.protocols import Contender, compare
from closedloop.subjects import load_subject

budget = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
subject = load_subject("lite0", layer="blocks.4", units="all")
contenders = [Contender("MEI", "mei"), Contender("evolved", "evolve")]
found = compare(subject, [30, 57], contenders, budgets=(budget,), save="runs/mei", exists="resume")
print((found.response / found.natural_best).isel(budget=0, seed=0).to_pandas().round(2))  # ÷ the best photograph
plot_contenders(found).savefig("mei_against_evolved.png")
