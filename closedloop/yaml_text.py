"""YAML in and out: plain values only, each with one meaning.

PyYAML follows YAML 1.1, in which ``1:30`` is the number 90, ``010`` is 8, ``1e-3`` is a text, a date is an object, and
of two entries of one name the last counts. Here numbers are what they look like, and the rest is text or an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from closedloop.errors import InvalidArgumentError

#: The tags of whole and of real numbers.
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
#: Implicit types of YAML 1.1 that are read otherwise here.
_REPLACED = (_INT, _FLOAT, "tag:yaml.org,2002:timestamp")
#: Whole numbers in decimal digits.
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$")
#: Real numbers; with an exponent also without a point.
_REAL = re.compile(
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$"
    r"|\.(?:nan|NaN|NAN)$"
)
#: Values that the aliases of a text may stand for; a file with more was made to fill the memory.
_MOST = 200_000


class _Resolved:
    """The implicit types that reading and writing share, so that what is written is read as the same."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own
        first: [(tag, pattern) for tag, pattern in known if tag not in _REPLACED]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Loader(_Resolved, yaml.SafeLoader):
    """Reads plain values, and refuses two entries of one name."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Returns the entries of a mapping, unless two have the same name."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a name of an entry is no text", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_real(self, node: Any) -> float:
        """Returns a real number, also one without a point such as 1e-3."""
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(_Resolved, yaml.SafeDumper):
    """Writes plain values; texts that would be read as numbers stand in quotes."""

    def represent_text(self, text: str) -> Any:
        """Returns a text; one with an end of line that only Unicode knows stands in quotes that keep it."""
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None  # what YAML takes for ends of lines
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _REAL, list("-+.0123456789"))
    _kind.add_implicit_resolver(_INT, _WHOLE, list("-+0123456789"))
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor(_FLOAT, _Loader.construct_real)


def read_yaml_text(text: str, where: str) -> Any:
    """Reads plain values: mappings, lists, texts, numbers, true, false, null.

    Args:
        text: In YAML.
        where: What it is, for an error.

    Raises:
        InvalidArgumentError: It is not YAML, says something twice, or stands for too much; the error begins with
            ``where``.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            nodes: dict[int, int] = {}
            if _size(node, nodes) - len(nodes) > _MOST:
                raise ValueError(f"its aliases stand for more than {_MOST} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InvalidArgumentError(f"{where}: cannot read this YAML: {error.problem or error.context}{at}.") from error
    except RecursionError as error:
        raise InvalidArgumentError(f"{where}: cannot read this YAML: its values are nested too deeply.") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InvalidArgumentError(f"{where}: cannot read this YAML: {str(error).splitlines()[0]}.") from error


def _size(node: Any, known: dict[int, int]) -> int:
    """Returns how many values a node stands for when its aliases are written out."""
    if id(node) not in known:
        known[id(node)] = _MOST + 1  # a node inside itself has no end
        parts = node.value if isinstance(node.value, list) else []
        inner = (part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return known[id(node)]


def yaml_text(content: Any) -> str:
    """Writes plain values in their order, as `read_yaml_text` reads them."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
