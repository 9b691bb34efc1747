"""A YAML file as plain data, with the line that each value stands on.

Only plain data: no tags, no objects. Words mean what YAML 1.2 says: `true` and `false` are the only booleans (so that
`off` and `no` can be choices), and only plain decimals are numbers (so that ids and dates stay text).
`${VAR}` may stand unquoted everywhere, also inside `{…}` and `[…]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.faults import Fault, Path
from gateway.redaction import redact

_MOST_VALUES = 20_000
"""A few aliases of aliases would otherwise fill the memory."""

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}\"'\\\n]*)?\}")
_HIDDEN = {code: 0xF0000 + code for code in range(128)}
_SHOWN = {hidden: code for code, hidden in _HIDDEN.items()}
"""While YAML is read, the characters of a reference stand in a private plane, where `{`, `,` and `:` mean nothing."""


class _Loader(yaml.SafeLoader):
    """Knows far fewer words than YAML 1.1."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """What a file says."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def read(text: str) -> Document:
    """Read one YAML document. An empty one has no data; what is wrong is in `faults`."""
    document = Document()
    loader = None
    try:
        loader = _Loader(_REFERENCE.sub(lambda found: found[0].translate(_HIDDEN), text))
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        document.faults.append(_broken(error, text))
    except yaml.reader.ReaderError as error:
        document.faults.append(_unreadable(error, text))
    except RecursionError:
        document.faults.append(Fault((), "not valid YAML: nested too deeply"))
    else:
        if isinstance(node, yaml.MappingNode):
            _Reader(document).read(node)
        elif node is not None and not (isinstance(node, yaml.ScalarNode) and _kind(node) == "null"):
            document.faults.append(Fault((), "not a configuration: expected keys such as 'chat:' at the top", line=1))
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Reader:
    """Turns nodes into data, and notes lines and faults."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._open: set[int] = set()

    def read(self, top: yaml.MappingNode) -> None:
        try:
            self._document.data = self._mapping(top, ())
        except OverflowError:
            self._document.faults = [Fault((), f"too large: more than {_MOST_VALUES} values; look at the aliases")]
        except RecursionError:
            self._document.faults = [Fault((), "nested too deeply")]

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise OverflowError
        if id(node) in self._open:
            self._fault(node, path, "an alias that contains itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and _kind(node) == "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and _kind(node) == "seq":
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, path, "a key must be a word")
                continue
            if _kind(key_node) == "merge":
                merged |= self._merge(value_node, path)
                continue
            key = key_node.value.translate(_SHOWN)
            here = (*path, key)
            if key in first:
                self._fault(key_node, here, f"given twice, first in line {first[key]}")
                continue
            first[key] = line
            self._document.lines[here] = line
            own[key] = self._value(value_node, here)
        return merged | own

    def _merge(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """`<<: *anchor` or a list of them; the first one that has a key wins."""
        merged: dict[str, Any] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                self._fault(source, path, "'<<' takes a block of keys")
                continue
            merged = self._value(source, path) | merged
        return merged

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        items = []
        for position, item in enumerate(node.value):
            here = (*path, position)
            self._document.lines[here] = item.start_mark.line + 1
            items.append(self._value(item, here))
        return items

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value).translate(_SHOWN) if isinstance(node, yaml.ScalarNode) else ""
        match _kind(node):
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if text.lstrip("+-").isdecimal():
                return int(text) if len(text) < 20 else text
            case "float":
                try:
                    return float(text)
                except ValueError:
                    pass
            case "str":
                return text
        self._fault(node, path, f"the tag {node.tag!r} is not supported; write plain text, numbers, lists and keys")
        return None

    def _fault(self, node: yaml.Node, path: Path, text: str) -> None:
        self._document.faults.append(Fault(path, text, line=node.start_mark.line + 1))


def _kind(node: yaml.Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _broken(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or error.context or "broken").translate(_SHOWN)
    if "'\\t'" in problem:
        problem = "a tab where only spaces may stand"
    if mark is None:
        return Fault((), f"not valid YAML: {problem}")
    lines = text.splitlines()
    offending = redact(lines[mark.line].strip()) if mark.line < len(lines) else "the end of the file"
    return Fault((), f"not valid YAML in column {mark.column + 1}: {problem}: {offending}", line=mark.line + 1)


def _unreadable(error: yaml.reader.ReaderError, text: str) -> Fault:
    line = text.count("\n", 0, error.position) + 1
    return Fault((), f"the character {chr(error.character)!r} may not stand in YAML", line=line)
