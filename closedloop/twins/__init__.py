"""Twins: models that are fitted to a recording, predict what the subject would answer, and can be differentiated.

A subject stays a black box. What is differentiated is a model of it: activations of a network, and a linear readout
that was fitted to what the subject answered. No number of a twin is a response; `closedloop.protocols.verify` asks the
subject itself. Walker et al. 2019, *Nature Neuroscience*; Bashivan, Kar & DiCarlo 2019, *Science*.
"""

from closedloop.gradients.diverse import diverse_images
from closedloop.twins.fitting import fit_twin
from closedloop.twins.storing import Readout, read_readout, write_readout

__all__ = ["Readout", "diverse_images", "fit_twin", "read_readout", "write_readout"]
