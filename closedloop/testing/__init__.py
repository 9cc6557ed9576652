"""Contract suites: a new subject, generator or optimizer is tested in three lines.

::

    from closedloop.testing import GeneratorContract

    class TestMine(GeneratorContract):
        def make(self):
            return Mine(resolution=16)

Run it with pytest. Needs pytest and numpy; torch only where the implementation has a ``forward``.
"""

from closedloop.errors import require

pytest = require("pytest", "test", "closedloop.testing")
pytest.register_assert_rewrite(
    "closedloop.testing.generators", "closedloop.testing.optimizers", "closedloop.testing.subjects"
)

from closedloop.testing.generators import GeneratorContract  # noqa: E402 - after the rewriting of its assertions
from closedloop.testing.optimizers import OptimizerContract  # noqa: E402
from closedloop.testing.subjects import SubjectContract  # noqa: E402

__all__ = ["GeneratorContract", "OptimizerContract", "SubjectContract"]
