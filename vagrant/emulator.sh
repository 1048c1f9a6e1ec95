#!/bin/bash
# QEMU for libvirt on a machine where hosts are emulated: whenever it says "-accel tcg", QEMU is told to
# emulate in one thread.  In several (its default) a host with several guests dies sooner or later
# (integration/lab/STABILITY.md).
words=("$@")
for at in "${!words[@]}"; do
  if [ "${words[at]}" = -accel ] && [ "${words[at + 1]:-}" = tcg ]; then words[at + 1]=tcg,thread=single; fi
done
exec qemu-system-x86_64 "${words[@]}"
