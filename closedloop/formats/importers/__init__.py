"""Reads recordings of other systems as runs of closedloop."""

from closedloop.formats.importers.pxdream import import_pxdream
from closedloop.formats.importers.xdream import import_xdream

#: All importers by the name that ``closedloop import --from`` takes.
SYSTEMS = {"xdream": import_xdream, "p-xdream": import_pxdream}

__all__ = ["SYSTEMS", "import_pxdream", "import_xdream"]
