#!/bin/sh
# Checks everything that needs an NVIDIA GPU, in one go of at most six minutes, and prints a table.
#
#   tools/gpu_check.sh [OUTPUT_DIR]
#
# From a checkout, without a network. PYTHON (default: python3) has a CUDA torch; g++, CMake, nvcc and patchelf are used where
# they are. Python packages that torchlink needs and that PYTHON lacks are taken from wheels in tools/gpu_check/wheels or
# the directory that TORCHLINK_WHEELS names; tools/gpu_check.sh --fetch downloads them there.
# GPU_CHECK_DEVICE=cpu rehearses the script where there is no GPU: the same checks on the CPU.
# Exits 0 if no check failed (a check whose tool or GPU is missing is skipped, by name), 1 if one did.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
wheels=${TORCHLINK_WHEELS:-$here/tools/gpu_check/wheels}
if [ "${1:-}" = --fetch ]; then
    exec "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" \
        typer rich jinja2 pyelftools platformdirs filelock shellingham click markupsafe markdown-it-py mdurl pygments \
        tomli typing-extensions annotated-doc
fi
out=${1:-$(mktemp -d)}
mkdir -p "$out"
exec "$python" "$here/tools/gpu_check/check.py" "$here" "$wheels" "$out"
