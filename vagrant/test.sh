#!/bin/bash
# What "make vagrant-test" runs as an ordinary user: bring the machines up by the book, ask the product in
# each whether it is ready; on those that have a kernel in their name the part of the integration suite that "make
# lab-test" runs, side by side; of host1 and host2 whether they reach each other, and whether a guest migrates from
# one to the other; destroy them.  Says how long each step took.
#   [SUITE="--all --kills 5"] test.sh [MACHINE...]
# SUITE is given to pytest.  What fails leaves the machines' journals in artifacts/vagrant/.
set -euo pipefail
cd "$(dirname "$0")"
export VAGRANT_CHECKPOINT_DISABLE=1
machines=("$@")
[ $# -gt 0 ] || machines=(host-7-3 host-6-12)
read -ra words <<<"${SUITE:-}"

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
  local kernel=$1 part=$2
  shift 2
  # where an interruption was ignored when this began (a job of a script's) the suite would not see one either
  (cd .. && env --default-signal=INT .venv/bin/pytest "integration/suite$part" --host vagrant --kernel "$kernel" -v "$@")
}

suites=()
finish() {
  local status=$? suite machine
  trap '' INT TERM
  for suite in "${suites[@]}"; do kill -INT -- "-$suite" 2>/dev/null || true; done
  wait # they put their host in order first
  if [ "$status" != 0 ]; then
    mkdir -p ../artifacts/vagrant
    for machine in "${machines[@]}"; do
      timeout 120 vagrant ssh --no-tty -c 'journalctl -b --no-pager' "$machine" </dev/null \
        >"../artifacts/vagrant/$machine.journal" 2>&1 || true
    done
    echo "== failed: artifacts/vagrant/ has the journals, dist/vagrant/ the consoles (of a session's machines)" >&2
  fi
  step vagrant destroy --force "${machines[@]}"
}

for machine in "${machines[@]}"; do
  state=$(vagrant status --machine-readable "$machine")
  if ! grep -q ',state,not_created$' <<<"$state"; then
    echo "$machine exists, and its test would destroy it: vagrant destroy $machine" >&2
    exit 1
  fi
done
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
step vagrant validate
step vagrant up --no-provision "${machines[@]}"
step vagrant provision "${machines[@]}"
for machine in "${machines[@]}"; do step doctor "$machine"; done
names=" ${machines[*]} "
if [[ $names == *" host1 "* && $names == *" host2 "* ]]; then
  step vagrant ssh -c 'timeout 20 bash -c "exec 3<>/dev/tcp/10.77.0.12/22 && head -n 1 <&3"' host1
  step suite 7.3 /test_migration.py --all
fi
set -m # each suite in a process group of its own, so that all of it can be interrupted
for machine in "${machines[@]}"; do
  case $machine in host-*) step suite "$(tr - . <<<"${machine#host-}")" "" "${words[@]}" & suites+=($!) ;; esac
done
set +m
status=0
for suite in "${suites[@]}"; do wait "$suite" || status=$?; done
suites=()
exit $status
