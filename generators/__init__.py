"""Generators: from codes to images."""

if __name__ != "closedloop.generators":
    raise ImportError("import closedloop.generators; the folder generators/ is not a package of its own.")
