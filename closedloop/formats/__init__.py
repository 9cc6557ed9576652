"""Recordings in the formats of the field: files, and the objects of other packages.

Files are written under a temporary name and appear complete or not at all. What needs a package beyond the core names
the extra that installs it.
"""

from closedloop.formats.export import FORMATS, export
from closedloop.formats.pynapple import to_pynapple
from closedloop.formats.rsatoolbox import rdm_movie, to_rsatoolbox
from closedloop.recording.reader import read_export

__all__ = ["FORMATS", "export", "rdm_movie", "read_export", "to_pynapple", "to_rsatoolbox"]
