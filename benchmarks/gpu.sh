#!/bin/sh
# Proves and measures the GPU path where there is no network: sh benchmarks/gpu.sh WHEELS OUT
#
# Uses the torch and triton of python3 (or of $PYTHON) as they are, and installs nothing but wheels of the folder WHEELS,
# into an environment of its own. Leaves gpu.json and gpu.md in OUT. Six minutes at most.
set -eu

begun=$(date +%s)
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ $# -eq 2 ] || { echo "usage: sh benchmarks/gpu.sh WHEELS OUT" >&2; exit 2; }
[ -d "$1" ] || { echo "$1: is no folder of wheels" >&2; exit 2; }
mkdir -p "$2"
wheels=$(CDPATH='' cd -- "$1" && pwd)
out=$(CDPATH='' cd -- "$2" && pwd)
python=${PYTHON:-python3}
for name in torch triton; do
  "$python" -c "import $name" 2>/dev/null || { echo "$python has no $name that can be imported" >&2; exit 2; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv --system-site-packages "$scratch/env"
site=$("$scratch/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' >"$site/found.pth"
# What is there already is not replaced: torch wants its own numpy.
for name in pydantic msgspec jinja2 rich safetensors hypothesis pytest numba xxhash; do
  "$scratch/env/bin/python" -c "import $name" 2>/dev/null ||
    "$scratch/env/bin/python" -m pip install -q --no-index --find-links "$wheels" "$name"
done
printf '#!/bin/sh\nexec "%s" -m auditor "$@"\n' "$scratch/env/bin/python" >"$scratch/env/bin/auditor"
chmod +x "$scratch/env/bin/auditor"

PYTHONPATH="$root:$root/schemas:$root/reports${PYTHONPATH:+:$PYTHONPATH}"
XDG_CACHE_HOME="$scratch/cache"
TRITON_CACHE_DIR="$scratch/triton"
export PYTHONPATH XDG_CACHE_HOME TRITON_CACHE_DIR
cd "$root"
"$scratch/env/bin/python" benchmarks/gpu.py --out "$out" --dir "$scratch" --until $((begun + 350))
