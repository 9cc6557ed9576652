"""Recordings in the formats of the field: files, and the objects of other packages.

Files are written under a temporary name and appear complete or not at all. What needs a package beyond the core names
the extra that installs it.
"""

from closedloop.exports.formats import FORMATS, export, read_export
from closedloop.exports.pynapple import to_pynapple
from closedloop.exports.rsatoolbox import rdm_movie, to_rsatoolbox

__all__ = ["FORMATS", "export", "rdm_movie", "read_export", "to_pynapple", "to_rsatoolbox"]
