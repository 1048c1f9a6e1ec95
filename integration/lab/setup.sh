#!/bin/bash
# Install what the lab needs on this machine, by apt alone.  Idempotent: when everything is there it
# says nothing and returns at once.
#
# QEMU must be 10 or newer: older ones crash while they emulate the nested paging that the lab's
# guests stand on.  Debian 12 has such a QEMU only in its backports, which a machine seldom has
# configured.  It is read from the same site that the machine's own apt uses, through a private
# source list that lives for this run only: the machine's configuration stays as it is.
set -euo pipefail

packages=(qemu-utils mmdebstrap e2fsprogs cpio zstd xz-utils busybox-static openssh-client gcc
  libc6-dev libvirt-dev pkg-config python3-venv python3-dev debian-archive-keyring)
[ "$(id -u)" = 0 ] || packages+=(uidmap)
qemu_packages=(qemu-system-x86 qemu-utils)
qemu_minimum=10

say() { echo "lab set-up: $*" >&2; }
fail() { say "$*"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing_packages() {
  local have
  have=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' "${packages[@]}" 2>/dev/null || true) "
  for p in "${packages[@]}"; do
    case $have in *" installed:$p "*) ;; *) echo "$p" ;; esac
  done
}

qemu_is_new_enough() {
  local version
  version=$(dpkg-query -W -f '${db:Status-Status} ${Version}' qemu-system-x86 2>/dev/null) || return 1
  case $version in installed\ *) ;; *) return 1 ;; esac
  dpkg --compare-versions "${version#installed }" ge "1:$qemu_minimum"
}

apt_get() {  # its chatter is of interest only when it fails
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" >"$work/log" 2>&1 && return
  tail -20 "$work/log" >&2
  fail "apt-get $1 failed"
}

# The first Debian archive (not the security one) among the machine's own sources.
debian_site() {
  local release=$1 uri suite component
  while read -r uri suite component; do
    case $uri in *security*) continue ;; esac
    case $suite in "$release" | stable | oldstable) ;; *) continue ;; esac
    [ "$component" = main ] && { echo "$uri"; return; }
  done < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages')
  return 1
}

security_site() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v suite="$1-security" '$2 == suite { print $1; exit }'
}

# apt-get with a source list of its own, so that nothing of the machine's configuration changes.
private_apt_get() {
  apt_get -o Dir::Etc::SourceList="$private/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::PreferencesParts=/dev/null -o Dir::Etc::Preferences="$private/preferences" \
    -o Dir::State::Lists="$private/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

install_qemu_from_backports() {
  local release=$1 site security
  site=$(debian_site "$release") || fail "no Debian $release archive in this machine's apt sources"
  security=$(security_site "$release")
  private=$work/apt
  mkdir -p "$private/lists/partial"
  {
    echo "deb $site $release main"
    echo "deb $site $release-backports main"
    [ -z "$security" ] || echo "deb $security $release-security main"
  } >"$private/sources.list"
  # Only QEMU's own packages and the firmware it is built against may come from backports.
  cat >"$private/preferences" <<PINS
Package: src:qemu src:seabios src:ipxe src:edk2 src:libslirp src:capstone
Pin: release n=$release-backports
Pin-Priority: 900

Package: *
Pin: release n=$release-backports
Pin-Priority: 100
PINS
  private_apt_get update
  private_apt_get install --no-install-recommends "${qemu_packages[@]}"
}

# Prometheus and promtool, for tests of alerts and dashboard. The package would start a server on this machine, so its
# programs are taken out of it. Without them those tests are skipped.
unpack_prometheus() {
  local tools=${OVERCOMMIT_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/overcommit-lab}/prometheus work
  if command -v promtool >/dev/null || [ -x "$tools/promtool" ]; then return; fi
  work=$(mktemp -d)
  say "fetching promtool"
  if (cd "$work" && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb .) >"$work/log" 2>&1; then
    mkdir -p "$tools" && cp "$work"/usr/bin/prom* "$tools"
  else
    say "no promtool: $(tail -1 "$work/log")"
  fi
  rm -rf "$work"
}

mapfile -t wanted < <(missing_packages)
if [ ${#wanted[@]} -eq 0 ] && qemu_is_new_enough; then unpack_prometheus; exit 0; fi

. /etc/os-release
work=$(mktemp -d)
trap 'as_root rm -rf "$work"' EXIT
chmod 755 "$work"
! dpkg-query -W qemu-system-x86 >/dev/null 2>&1 || qemu_is_new_enough ||
  say "the QEMU of this machine is older than $qemu_minimum: a newer one takes its place (running ones stay as they are)"
say "installing ${wanted[*]:-}$(qemu_is_new_enough || echo " qemu-system-x86 >= $qemu_minimum")"
apt_get update
# qemu-utils must match the system emulator, so it comes with it below
mapfile -t ordinary < <(printf '%s\n' "${wanted[@]}" | grep -v '^qemu-')
[ -z "${ordinary[*]}" ] || apt_get install --no-install-recommends "${ordinary[@]}"
if ! qemu_is_new_enough; then
  candidate=$(apt-cache policy qemu-system-x86 | awk '$1 == "Candidate:" { print $2 }')
  if dpkg --compare-versions "${candidate:-0}" ge "1:$qemu_minimum"; then
    apt_get install --no-install-recommends "${qemu_packages[@]}"
  else
    install_qemu_from_backports "$VERSION_CODENAME"
  fi
fi
if [ -n "$(missing_packages)" ]; then apt_get install --no-install-recommends "${packages[@]}"; fi
qemu_is_new_enough || fail "QEMU is still older than $qemu_minimum"
unpack_prometheus
