"""Joins an explorer's modules into the one text that anywidget and the static page can load.

The page loads that text from a blob address, where `import "./maths.js"` leads nowhere. The
bundler knows one way to import and one to export, each at the start of a line:

    import { kl, entropy } from "./maths.js";
    export function kl(...) { ... }         (also `export const`)

and `export default` in the entry. Any other use of the two words, in comments and strings too,
raises `BundleError`: a statement that this small reader does not know must not slip by.

The text travels with every explorer in every page and notebook, so declarations that nothing leads
to, comments, indentation, some ends of lines and blanks around some signs stay behind, and `const`
becomes `let`. A module's statements at its left margin are declarations (`function f`, `const c =`)
or stay in any case. What stands between double quotes or
backticks is kept as it is; a template within a template would be misread, so there is none.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{([\w\s,]+)\} from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:function|const) (\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_CHUNK = re.compile(r"^(?=\w)", re.MULTILINE)
_DECLARED = re.compile(r"\A(?:function (\w+)|const (\w+|\[[\w, ]+\]) =)")
_WORD = re.compile(r"[\w$]+")
_COMMENT = re.compile(r"^\s*//.*\n|[ \t]+// [^\"`\n]*$", re.MULTILINE)
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TEXT = re.compile(r'("(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)')
_SIGN = re.compile(r" ?(=>|===?|[,{}()\[\]?:=+*/<>&|]) ?|(?<=;)[ \n]|;\n?(?=\})")
_LET = re.compile(r"\bconst\b")
_CSS_SIGN = re.compile(r"([:,]) | (?=\{)")
_MARGIN = re.compile(r"(?<=[{(\[,])\n\s*|^\s+", re.MULTILINE)
_KEYWORD = re.compile(r"^.*\b(?:import|export)\b.*$", re.MULTILINE)


class BundleError(Exception):
    """A module is written in a way that the bundler does not read."""


class _Module:
    """A module taken apart: what it imports, and its declarations that anything leads to."""

    def __init__(self, name: str, code: str, *, entry: bool) -> None:
        if entry and len(_DEFAULT.findall(code)) != 1:
            message = "an entry needs one `export default` at the start of a line"
            raise BundleError(f"{name}: {message}")
        self.name = name
        self.exports = set(_EXPORT.findall(code))
        self.sources = {
            each.strip(): source
            for names, source in _IMPORT.findall(code)
            for each in names.split(",")
            if each.strip()
        }
        code = _EXPORT.sub("", _IMPORT.sub("", code))
        _refuse_leftovers(name, _DEFAULT.sub("", code) if entry else code)
        self.chunks = [each for each in _CHUNK.split(_COMMENT.sub("", code)) if each.strip()]
        self.kept: set[int] = set()
        self.imported: set[str] = set()
        self.asked: set[str] = set()
        self._home = {
            each: index
            for index, chunk in enumerate(self.chunks)
            for declared in _DECLARED.findall(chunk)
            for each in _WORD.findall("".join(declared))
        }

    def statements(self) -> list[int]:
        """The chunks that do something when the module starts: they stay in any case."""
        return sorted(set(range(len(self.chunks))) - set(self._home.values()))

    def keep(self, *chunks: int) -> None:
        """Keep these declarations and all of this module that they name."""
        for index in chunks:
            if index not in self.kept:
                self.kept.add(index)
                words = set(_WORD.findall(self.chunks[index]))
                self.imported |= words & set(self.sources)
                self.keep(*(self._home[word] for word in words & set(self._home)))

    def ask(self, name: str) -> None:
        """Keep what the other module imports under this name."""
        self.asked.add(name)
        self.keep(self._home[name])

    def code(self) -> str:
        """What is kept, behind the names that it takes from other modules."""
        lines = []
        for source in dict.fromkeys(self.sources.values()):
            names = sorted(each for each in self.imported if self.sources[each] == source)
            if names:
                lines.append(f"const {{{', '.join(names)}}} = {_constant(source)};\n")
        return "".join(lines + [self.chunks[index] for index in sorted(self.kept)])


def bundle(entry: str, folder: Path = STATIC) -> str:
    """Return the module `entry` of `folder` and what it needs as one self-contained ES module.

    Each imported module becomes a constant that holds its exports, and stands before whatever
    uses it. Of its declarations those stay behind that nothing leads to. Raises `BundleError` for
    a statement that is not understood, a name that the other module does not export, a missing
    file or a circular import.
    """
    modules = _read_all(entry, folder)
    for module in reversed(modules.values()):  # whoever imports comes first
        module.keep(*module.statements())
        for name in sorted(module.imported):
            modules[module.sources[name]].ask(name)
    *others, main = modules.values()
    parts = [_as_constant(module) for module in others if module.kept]
    return _tightened("\n".join([*parts, main.code()]))


def _read_all(entry: str, folder: Path) -> dict[str, _Module]:
    """The module and all that it imports, by name, each after those that it imports."""
    modules: dict[str, _Module] = {}

    def read(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise BundleError(f"circular import: {' -> '.join((*importers, name))}")
        if name in modules:
            return
        module = _Module(name, _read(folder / name), entry=not importers)
        for each, source in module.sources.items():
            read(source, (*importers, name))
            if each not in modules[source].exports:
                raise BundleError(f"{name}: {source} does not export {[each]}")
        modules[name] = module

    read(entry, ())
    return modules


def stylesheet(*names: str, folder: Path = STATIC) -> str:
    """Return the named style sheets of `folder` as one text."""
    text = "\n".join(_read(folder / name) for name in names)
    return _CSS_SIGN.sub(r"\1", _MARGIN.sub("", _CSS_COMMENT.sub("", text)))


def _tightened(code: str) -> str:
    code = _MARGIN.sub("", _COMMENT.sub("", code))
    parts = _TEXT.split(code)
    parts[::2] = [_LET.sub("let", _SIGN.sub(r"\1", part)) for part in parts[::2]]
    return "".join(parts)


def _read(file: Path) -> str:
    if not file.is_file():
        raise BundleError(f"{file.name} is not in the folder {file.parent.name}")
    return file.read_text(encoding="utf-8")


def _as_constant(module: _Module) -> str:
    returned = f"return {{ {', '.join(sorted(module.asked))} }};"
    code = module.code().rstrip()
    return f"const {_constant(module.name)} = (() => {{\n{code}\n{returned}\n}})();\n"


def _constant(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)


def _refuse_leftovers(name: str, code: str) -> None:
    leftover = _KEYWORD.search(code)
    if leftover:
        raise BundleError(f"{name}: this line is not understood: {leftover[0].strip()}")
