#!/usr/bin/env bash
# Build sdist and wheel, install the wheel into a clean environment outside the repository, and run
# the quickstart there: catches packages and data files that an editable install hides.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

rm -rf build/lib build/bdist.*   # setuptools would put stale files of an older build into the wheel
python -m build --quiet --outdir "$place/dist" . 2>&1 | grep -v 'is ignored' || true
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "$place"/dist/*.whl 2>&1 | grep -v 'is ignored' || true
cp -r recipes/quickstart "$place/quickstart"
cd "$place"
./venv/bin/optc --version
export OPTC_CACHE_DIR=off
./venv/bin/optc compile quickstart/recipe.yaml --output "$place/out" --json >"$place/result.json"
for system in cmake ninja make bazel; do
    test -d "$(./venv/bin/optc where "$system")"
    test -d "$(./venv/bin/optc where "$system" --example)"
done
./venv/bin/python - "$place" <<'PY'
import json, pathlib, sys
place = pathlib.Path(sys.argv[1])
manifest = json.loads((place / "out" / "manifest.json").read_text())
assert {f.split("/")[0] for f in manifest["files"]} == {"cascadelake", "sapphirerapids"}, manifest
import optc
assert str(place) in optc.__file__, optc.__file__
PY
echo "wheel works: $(basename "$place"/dist/*.whl), built from $(basename "$repository")"
