"""Rigs: computers that show images to an animal and answer with spikes. The protocol ``closedloop-rig/1``, both sides.

`messages` are what goes back and forth, `folder` and `zeromq` the ways on which it goes. `client` is the side of the
experiment, which `closedloop.subjects.RigSubject` uses; `server` and `journal` that of the rig, to which a program that
shows images hands its `show`. `simulated` is such a program without a monitor.
"""
