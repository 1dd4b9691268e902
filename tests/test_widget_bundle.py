"""The joining of an explorer's modules, and what the joined text may hold."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
from widget_page import open_page

from dpo_lab.widgets import (
    BetaExplorer,
    BoltzmannExplorer,
    CurvesExplorer,
    ImplicitRewardExplorer,
    LandscapeExplorer,
    LossExplorer,
    Playground,
)
from dpo_lab.widgets._bundle import STATIC, BundleError, bundle, stylesheet

ENTRY = 'import { one } from "./a.js";\nexport default { one };\n'


def write(folder, **modules: str):
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.browser
def test_joined_modules_run_and_share_what_they_both_import(chromium, tmp_path):
    write(
        tmp_path,
        entry=(
            'import {\n  one, tick,\n} from "./a.js";\n'
            'import { count } from "./b.js";\n'
            "tick();\nexport default { one, count: count() };\n"
        ),
        a=(
            'import { bump } from "./b.js";\nconst hidden = 1;\n'
            "export const one = hidden;\nexport function tick() { bump(); }\n"
        ),
        b=(
            "let ticks = 0;\nconst hidden = 5;\n"
            "export function bump() { ticks += hidden; }\n"
            "export function count() { return ticks; }\n"
        ),
    )
    page = chromium.new_page()
    open_page(page)
    result = page.evaluate(
        "async (text) => (await importText(text)).default", bundle("entry.js", tmp_path)
    )
    page.close()
    assert result == {"one": 1, "count": 5}


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ("export const two = 2;\n", r"a\.js does not export \['one'\]"),
        ("const one = 1;\nexport { one };\n", r"a\.js: this line is not understood: export"),
        ("export async function one() {}\n", r"not understood: export async"),
        ("export const one = 1;\nexport class Two {}\n", r"not understood: export class Two"),
        ("export const one = 1;\nexport default one;\n", r"not understood: export default"),
        ('import * as b from "./b.js";\nexport const one = 1;\n', r"not understood: import \* as"),
        ('import b from "./b.js";\nexport const one = 1;\n', r"not understood: import b"),
        ('  import { b } from "./b.js";\nexport const one = 1;\n', r"not understood: import { b }"),
        ('import { b } from "https://x.org/b.js";\nexport const one = 1;\n', r"not understood"),
        ('import { b as one } from "./b.js";\nexport const one = 1;\n', r"'b as one'"),
        ('export const one = () => import("./b.js");\n', r"not understood: .*import\("),
        ('import { b } from "./missing.js";\nexport const one = b;\n', r"missing\.js is not in"),
        (
            'import { x } from "./entry.js";\nexport const one = x;\n',
            r"circular import: entry\.js -> a\.js -> entry\.js",
        ),
    ],
)
def test_what_the_bundler_does_not_know_raises(tmp_path, a, message):
    write(tmp_path, entry=ENTRY, a=a, b="export const b = 1;\n")
    with pytest.raises(BundleError, match=message):
        bundle("entry.js", tmp_path)


@pytest.mark.parametrize("entry", ["const x = 1;\n", "export default 1;\nexport default 2;\n"])
def test_an_entry_has_one_default(tmp_path, entry):
    write(tmp_path, entry=entry)
    with pytest.raises(BundleError, match="one `export default`"):
        bundle("entry.js", tmp_path)


EXPLORERS = [
    BetaExplorer,
    BoltzmannExplorer,
    CurvesExplorer,
    ImplicitRewardExplorer,
    LandscapeExplorer,
    LossExplorer,
    Playground,
]


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_an_explorer_is_small_and_self_contained(explorer):
    text = explorer._esm + explorer._css
    # The playground, alone on its page, carries the whole family of losses beside its own code.
    shared = ["losses", "losses_margin", "losses_pointwise", "links", "tabular"]
    family = sum((STATIC / f"{name}.js").stat().st_size for name in shared)
    assert len(text.encode()) < 40_000 + (family if explorer is Playground else 0)
    # The name space of SVG is a name, not an address that is fetched.
    assert set(re.findall(r"\w+://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacent|@import|url\(", text)


def test_the_sheets_of_two_explorers_on_one_page_do_not_meet():
    """A sheet of one explorer is one rule, for a class that only this explorer's root has."""
    shared, scopes = {"ui.css", "fields.css"}, {}
    for sheet in STATIC.glob("*.css"):
        if sheet.name not in shared:
            text = stylesheet(sheet.name).strip()
            scope = re.match(r"\.dpo-explorer(\.dpo-[\w-]+)\{", text)
            depths = list(accumulate((c == "{") - (c == "}") for c in text[scope.end() - 1 :]))
            assert depths.index(0) == len(depths) - 1, f"{sheet.name}: a rule outside its scope"
            entry = (STATIC / f"{sheet.stem}.js").read_text(encoding="utf-8")
            assert f'class: "dpo-explorer {scope[1][1:]}" }}' in entry, sheet.name
            scopes[scope[1]] = sheet.name
    assert len(scopes) == len(EXPLORERS)


@pytest.mark.browser
def test_what_stands_in_quotes_survives_the_tightening(chromium, tmp_path):
    write(
        tmp_path,
        entry=(
            '// A comment, with `odd "marks".\n'
            'const text = "a , b => { c : d }  // e";\n'
            "const one = { a : 1 ,\n    b: -1 ? .5 : 2 };\n"
            "const two = `x = ${ one.a } , ${one.b === .5} \\` =  y`; // the rest\n"
            "export default { text, two, three: one.a !== 2 && one.b >= .5 };\n"
        ),
    )
    joined = bundle("entry.js", tmp_path)
    assert "A comment" not in joined
    assert "the rest" not in joined
    assert "{a:1,b:-1?.5:2}" in joined
    page = chromium.new_page()
    open_page(page)
    result = page.evaluate("async (text) => (await importText(text)).default", joined)
    page.close()
    assert result == {
        "text": "a , b => { c : d }  // e",
        "two": "x = 1 , true ` =  y",
        "three": True,
    }


def test_what_nothing_leads_to_stays_behind(tmp_path):
    write(
        tmp_path,
        entry=ENTRY,
        a=(
            'import { deep, idle } from "./b.js";\n'
            "export function one() { return helper(); }\n"
            "const [x, y] = [1, 2];\n"
            "function helper() { return deep + y; }\n"
            "export const unused = () => idle;\n"
        ),
        b="export const deep = 7;\nexport const idle = 8;\n",
    )
    joined = bundle("entry.js", tmp_path)
    assert "unused" not in joined
    assert "idle" not in joined
    assert all(name in joined for name in ("one", "helper", "deep=7", "[x,y]"))
