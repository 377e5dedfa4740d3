#!/usr/bin/env bash
# What a GPU says of this program, in some minutes, on a bare machine: JAX,
# Flax, Optax and PyTorch, no TensorFlow, no data set.
#
#   python -m tests.benchmarks.gpu_films --data_dir=NIH --films=build/films.npz
#   bash tests/benchmarks/gpu.sh build/films.npz
#   bash tests/benchmarks/gpu.sh build/films.npz --try     # on a CPU, small
#
# In the order of what is missed most, each part with its own limit of time, and
# each result printed and kept at once in $OUT (build/gpu): a machine that is
# taken back early leaves what was measured.
#
# Tried with --try on one core, with PyTorch 2.13 for CPUs: every part ends well,
# in float32 and bfloat16, in five minutes, of which PyTorch's compiler takes the
# most. Not tried: a GPU.
set -uo pipefail
cd "$(dirname "$0")/../.."
films=${1:?Give the file of films that tests/benchmarks/gpu_films.py writes.}
small=${2:-}
export OUT=${OUT:-build/gpu}
mkdir -p "$OUT"
if [ "$small" = --try ]; then
  steps=(0 1)
  archs=(resnet18)
  batches=(2)
  dtypes=(float32 bfloat16)
  step=(--image_size=32 --batch_size=4 --filters=8 --rounds=1)
  versus=(--image_size=32 --num_filters=8 --rounds=1)
  training=(--try --dtype=float32)
else
  steps=(0 3 7)
  archs=(resnet50 resnet18)
  batches=(128 256)
  dtypes=(bfloat16 float32)
  step=()
  versus=(--image_size=224 --rounds=5)
  training=()
fi
# Most of the card's memory at once, as a user has it; PyTorch needs the rest
# where both are measured.
export XLA_PYTHON_CLIENT_PREALLOCATE=false

part() { # part NAME SECONDS COMMAND...
  echo "== $1"
  timeout "$2" "${@:3}" 2>"$OUT/$1.err" | tee "$OUT/$1.txt"
  [ "${PIPESTATUS[0]}" = 0 ] || echo "-- $1 did not end well: $OUT/$1.err"
}

if command -v nvidia-smi >/dev/null; then nvidia-smi -L | tee "$OUT/card.txt"; fi
# The share of the two ceilings and a trace's top five, of the preset's network.
for k in "${steps[@]}"; do
  part "ceilings-k$k" 180 python -m tests.benchmarks.gpu_step \
    --num_steps="$k" --arch="${archs[0]}" --dtype="${dtypes[0]}" "${step[@]}"
done
# Three seeds of baseline and robust on real films.
part train 420 python -m tests.benchmarks.gpu_train --films="$films" \
  "${training[@]}"
# The step beside PyTorch's compiled autocast in channels_last.
counts=("${steps[@]/#/--num_steps=}")
for dtype in "${dtypes[@]}"; do
  for batch in "${batches[@]}"; do
    for arch in "${archs[@]}"; do
      part "versus-$arch-$dtype-$batch" 300 python -m \
        tests.benchmarks.bench_step --what=speed --noforward \
        --torch_mode=compiled --arch="$arch" --dtype="$dtype" \
        --batch_size="$batch" "${counts[@]}" "${versus[@]}"
    done
  done
done
