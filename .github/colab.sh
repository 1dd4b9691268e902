#!/usr/bin/env bash
# The chapters beside Colab's versions: .github/colab.sh PIP_FREEZE [CHAPTER.ipynb ...]
#
# PIP_FREEZE is Colab's own list of versions. A fresh environment gets those of them that matter
# here, then the set-up cell of a chapter installs the library, from the last commit and without
# any constraint. Nothing that Colab has may be missing from what was there, or change. Then each
# chapter (all, where none is named) runs alone in an empty folder.
#
# PYTHON: the interpreter; Colab's is 3.13. PINS: "name==version ..." in the place of Colab's, where
# a version has no build for this interpreter.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
freeze=$(realpath "$1")
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Names without local builds (+cu128); what serves a graphics card alone is left out.
sed -nE 's/^([A-Za-z0-9_.-]+==[^+ ]+)(\+[^ ]*)?$/\1/p' "$freeze" |
  grep -viE '^(cuda-|nvidia-|triton)' >colab.txt
for pin in ${PINS:-}; do
  sed -i "/^${pin%%==*}==/d" colab.txt
  echo "$pin" >>colab.txt
done
grep -E '^(torch|numpy|transformers|ipywidgets|anywidget)==' colab.txt

"${PYTHON:-python3}" -m venv alone
source alone/bin/activate
pip install --quiet --upgrade --constraint colab.txt pip setuptools
wanted="dpo_lab[train] @ git+file://$root"

echo "-- which of Colab's packages the library and a kernel need; a range that refuses one fails"
pip install --dry-run --report needed.json --constraint colab.txt \
  "$wanted" ipykernel nbclient nbformat >needed.log || { cat needed.log >&2 && exit 1; }
cat >names.py <<'END'
"""The packages of a pip report that are, or are not, in a list of name==version lines."""

import json
import re
import sys


def key(name):
    return re.sub(r"[-_.]+", "-", name).lower()


report, listed, which = sys.argv[1:]
known = {key(line.partition("==")[0]) for line in open(listed)}
for item in json.load(open(report))["install"]:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    if (key(name) in known) == (which == "in"):
        print(f"{name}=={version}")
END
python names.py needed.json colab.txt in >preinstalled.txt
pip install --quiet --constraint colab.txt --requirement preinstalled.txt
pip freeze | sort >before.txt
wc -l <before.txt

echo "-- the set-up cell's command, without constraints: what it would add"
pip install --quiet --dry-run --report added.json "$wanted"
python names.py added.json colab.txt out
if python names.py added.json colab.txt in | grep .; then
  echo "these stand in Colab's list, and the set-up cell would replace them" >&2
  exit 1
fi

echo "-- the set-up cell itself"
PYTHONPATH=$root/book/_tools python -c "import sys, repository
print(repository.setup_cell(sys.argv[1]))" "file://$root" >setup_cell.py
mkdir empty
(cd empty && python ../setup_cell.py && python -c "import dpo_lab; print(dpo_lab.__file__)")
pip freeze | sort >after.txt
if comm -23 before.txt after.txt | grep .; then
  echo "these were changed or removed" >&2
  exit 1
fi
pip check

[ $# -gt 0 ] || set -- "$root"/notebooks/*.ipynb
for chapter in "$@"; do
  folder=$(mktemp -d --tmpdir="$work")
  cp "$(cd "$root" && realpath "$chapter")" "$folder"
  SECONDS=0
  (cd "$folder" && jupyter execute "$(basename "$chapter")" >log.txt 2>&1) ||
    { cat "$folder/log.txt" >&2 && exit 1; }
  echo "$(basename "$chapter"): $SECONDS s"
done
