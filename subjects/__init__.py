"""Subjects: networks, functions and model neurons behind the black-box interface of an experiment."""

if __name__ != "closedloop.subjects":
    raise ImportError("import closedloop.subjects; the folder subjects/ is not a package of its own.")
