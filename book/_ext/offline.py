"""Keep the built site offline: no thebe, and of MathJax only what the pages load."""

from __future__ import annotations

import shutil
from pathlib import Path

# tex-chtml.js holds the parser and the renderer; it loads its fonts and rare TeX packages itself.
MATHJAX_KEPT = ("tex-chtml.js", "input/tex", "output/chtml/fonts")


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Take away thebe's scripts: one is a syntax error on every page, one names a CDN."""

    def is_thebe(script) -> bool:
        body = getattr(script, "attributes", {}).get("body") or ""
        name = str(getattr(script, "filename", script) or "")
        return "THEBE_JS_URL" in body or name.endswith("sphinx-thebe.js")

    context["script_files"][:] = [s for s in context["script_files"] if not is_thebe(s)]


def keep_used_mathjax(app, exception) -> None:
    """Delete the variants of MathJax that no page loads, about 25 of 30 MB."""
    folder = Path(app.outdir, "_static", "mathjax")
    kept = [folder / name for name in MATHJAX_KEPT]
    for path in sorted(folder.rglob("*"), reverse=True):
        if any(path == keep or keep in path.parents or path in keep.parents for keep in kept):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def setup(app) -> dict[str, object]:
    """Register both, after the extensions whose files they take away."""
    app.connect("html-page-context", drop_thebe, priority=950)
    app.connect("build-finished", keep_used_mathjax, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
