"""Joins an explorer's modules into the one text that anywidget and the static page can load.

The page loads that text from a blob address, where `import "./maths.js"` leads nowhere. The
bundler knows one way to import and one to export, each at the start of a line:

    import { kl, entropy } from "./maths.js";
    export function kl(...) { ... }         (also `export const`)

and `export default` in the entry. Any other use of the two words, in comments and strings too,
raises `BundleError`: a statement that this small reader does not know must not slip by.

The text travels with every explorer in every page and notebook, so comments, indentation, some
ends of lines and blanks around some signs stay behind. What stands between double quotes or
backticks is kept as it is; a template within a template would be misread, so there is none.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{([\w\s,]+)\} from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:function|const) (\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//.*\n|[ \t]+// [^\"`\n]*$", re.MULTILINE)
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TEXT = re.compile(r'("(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)')
_SIGN = re.compile(r" ?(=>|===?|[,{}?:=+*/<>&|]) ?")
_CSS_SIGN = re.compile(r"([:,]) | (?=\{)")
_MARGIN = re.compile(r"(?<=[{(\[,])\n\s*|^\s+", re.MULTILINE)
_KEYWORD = re.compile(r"^.*\b(?:import|export)\b.*$", re.MULTILINE)


class BundleError(Exception):
    """A module is written in a way that the bundler does not read."""


def bundle(entry: str, folder: Path = STATIC) -> str:
    """Return the module `entry` of `folder` and all it imports as one self-contained ES module.

    Each imported module becomes a constant that holds its exports, and stands before whatever
    uses it. Raises `BundleError` for a statement that is not understood, a name that the other
    module does not export, a missing file or a circular import.
    """
    exports: dict[str, set[str]] = {}
    parts: list[str] = []

    def inline(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise BundleError(f"circular import: {' -> '.join((*importers, name))}")
        if name not in exports:
            code = linked(name, importers)
            exports[name] = set(_EXPORT.findall(code))
            parts.append(_as_constant(name, _EXPORT.sub("", code), exports[name]))

    def linked(name: str, importers: tuple[str, ...]) -> str:
        code = _read(folder / name)
        for names, source in _IMPORT.findall(code):
            inline(source, (*importers, name))
            missing = {part.strip() for part in names.split(",")} - exports[source] - {""}
            if missing:
                raise BundleError(f"{name}: {source} does not export {sorted(missing)}")
        return _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_constant(found[2])};", code)

    code = linked(entry, ())
    if len(_DEFAULT.findall(code)) != 1:
        raise BundleError(f"{entry}: an entry needs one `export default` at the start of a line")
    _refuse_leftovers(entry, _DEFAULT.sub("", code))
    return _tightened("\n".join([*parts, code]))


def stylesheet(*names: str, folder: Path = STATIC) -> str:
    """Return the named style sheets of `folder` as one text."""
    text = "\n".join(_read(folder / name) for name in names)
    return _CSS_SIGN.sub(r"\1", _MARGIN.sub("", _CSS_COMMENT.sub("", text)))


def _tightened(code: str) -> str:
    code = _MARGIN.sub("", _COMMENT.sub("", code))
    parts = _TEXT.split(code)
    parts[::2] = [_SIGN.sub(r"\1", part) for part in parts[::2]]
    return "".join(parts)


def _read(file: Path) -> str:
    if not file.is_file():
        raise BundleError(f"{file.name} is not in the folder {file.parent.name}")
    return file.read_text(encoding="utf-8")


def _as_constant(name: str, code: str, exported: set[str]) -> str:
    _refuse_leftovers(name, code)
    returned = f"return {{ {', '.join(sorted(exported))} }};"
    return f"const {_constant(name)} = (() => {{\n{code.rstrip()}\n{returned}\n}})();\n"


def _constant(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)


def _refuse_leftovers(name: str, code: str) -> None:
    leftover = _KEYWORD.search(code)
    if leftover:
        raise BundleError(f"{name}: this line is not understood: {leftover[0].strip()}")
