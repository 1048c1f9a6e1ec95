#!/bin/bash
# Install what Vagrant needs on this machine, by apt alone and from the sites that the machine's own apt is
# set up with; integration/lab/setup.sh, which comes first, does the same for the lab.  Idempotent.
#
# root cannot have a libvirt session of its own, so where there is no system libvirt either there is a user
# for root, who is also made here (see as_user.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
user=overcommit-vagrant
packages=(vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients rsync
  grub-common grub-pc-bin uidmap)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

"$here/../integration/lab/setup.sh"
# Debian 13 has libvirt in more pieces; the plugin asks for pools and networks even where it makes none.
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] ||
  packages+=(libvirt-daemon-driver-storage libvirt-daemon-driver-network libvirt-daemon-driver-nodedev)
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
if [ "$(id -u)" = 0 ] && [ ! -S /run/libvirt/libvirt-sock ] && ! id "$user" >/dev/null 2>&1; then
  useradd --create-home --key HOME_MODE=0700 --shell /bin/bash "$user"
fi
