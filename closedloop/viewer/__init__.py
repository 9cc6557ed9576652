"""The viewer: a network thinks before your eyes, and experiments are watched while they run.

`create_app` makes a Starlette application, `view` shows it from Python or in Jupyter, and ``closedloop view`` from the
command line. Nothing leaves this computer.
"""

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.viewer.app import create_app
    from closedloop.viewer.serving import view

# The server needs the extra `viewer`, and the package imports without it.
__getattr__ = late_import(__name__, {"create_app": "app", "view": "serving"})

__all__ = ["create_app", "view"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
