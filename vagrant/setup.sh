#!/bin/bash
# Install what Vagrant needs on this machine, by apt alone and from the sites that the machine's own apt is
# set up with; integration/lab/setup.sh, which comes first, does the same for the lab.  Idempotent.
#
# root cannot have a libvirt session of its own, so for root there is a user, who is also made here
# (see as_user.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
user=overcommit-vagrant
packages=(vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients rsync
  grub-common grub-pc-bin uidmap)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

"$here/../integration/lab/setup.sh"
have=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' "${packages[@]}" 2>/dev/null || true) "
missing=()
for p in "${packages[@]}"; do
  case $have in *" installed:$p "*) ;; *) missing+=("$p") ;; esac
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "vagrant set-up: installing ${missing[*]}" >&2
  apt_get=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold)
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { "${apt_get[@]}" update && "${apt_get[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1
  then
    tail -20 "$log" >&2
    exit 1
  fi
fi
if [ "$(id -u)" = 0 ] && ! id "$user" >/dev/null 2>&1; then
  useradd --create-home --shell /bin/bash "$user"
fi
