#!/bin/bash
# What "make vagrant-test" runs as an ordinary user: bring the machines up by the book, ask the product in
# each whether it is ready, run on those that have a kernel in their name the part of the integration suite that "make
# lab-test" runs, destroy them.  Says how long each step took.
#   test.sh [MACHINE...]
set -euo pipefail
cd "$(dirname "$0")"
export VAGRANT_CHECKPOINT_DISABLE=1
machines=("${@:-host-7-3}")

step() {
  local begin=$SECONDS
  echo "== $*" >&2
  "$@"
  echo "== $*: $((SECONDS - begin)) s" >&2
}

doctor() {
  local status=0
  vagrant ssh -c 'overcommitctl doctor' "$1" || status=$?
  # 4: DAMON is somebody else's; on 7.3 the kernel runs its own damon_stat, which --take-over moves aside
  [ "$status" = 0 ] || [ "$status" = 4 ]
}

suite() {
  (cd .. && .venv/bin/pytest integration/suite --host vagrant --kernel "$1" -p no:randomly --timeout 1800 -v)
}

trap 'step vagrant destroy --force "${machines[@]}"' EXIT
step vagrant validate
step vagrant up --no-provision "${machines[@]}"
step vagrant provision "${machines[@]}"
for machine in "${machines[@]}"; do step doctor "$machine"; done
for machine in "${machines[@]}"; do
  case $machine in host-*) step suite "$(tr - . <<<"${machine#host-}")" ;; esac
done
