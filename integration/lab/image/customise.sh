#!/bin/bash
# Turn a plain Debian root into the lab's KVM host.  Runs on the build machine as an mmdebstrap hook.
#   customise.sh ROOT SSH_PUBLIC_KEY SUITE
# A boot under emulation costs seconds per service, so everything that a throw-away host does not
# need is masked; what the product meets on a real host (libvirt, machined, cgroup v2, DAMON, zram,
# tracefs) is left as Debian has it.
set -euo pipefail
root=$1 key=$2 suite=$3

# The second kernel.  The first, the suite's own, came with the root.
printf 'APT::Sandbox::User "root";\n' >"$root/etc/apt/apt.conf.d/00lab"
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
  --no-install-recommends -t "$suite-backports" install linux-image-cloud-amd64
rm "$root/etc/apt/apt.conf.d/00lab"

echo labhost >"$root/etc/hostname"
printf '127.0.0.1 localhost labhost\n::1 localhost\n' >"$root/etc/hosts"
: >"$root/etc/fstab"
# With an empty one systemd would do its first-boot work at every boot of a throw-away overlay.
echo 6f76657263006f6d6d6974006c616200 >"$root/etc/machine-id"

# --- who may log in: root for the lab, "vagrant" for Vagrant
chroot "$root" useradd -m -s /bin/bash -G sudo,libvirt,kvm vagrant
chroot "$root" usermod -p '*' vagrant # "!" would be a locked account, which sshd refuses
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/vagrant"
chmod 0440 "$root/etc/sudoers.d/vagrant"
for home in root home/vagrant; do
  mkdir -p -m 700 "$root/$home/.ssh"
  install -m 600 "$key" "$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R vagrant:vagrant /home/vagrant
mkdir -p "$root/etc/ssh/sshd_config.d" "$root/etc/systemd/system/ssh.service.d"
cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'CONF'
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
PerSourcePenalties no
CONF
printf '[Unit]\nAfter=\n[Service]\nExecStartPre=\n' >"$root/etc/systemd/system/ssh.service.d/lab.conf"
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/systemd/system/ss*.wants/sshd-keygen.service
ssh-keygen -q -t ed25519 -N '' -C labhost -f "$root/etc/ssh/ssh_host_ed25519_key"

# --- libvirt: consoles are plain files without a daemon between
cat >>"$root/etc/libvirt/qemu.conf" <<'CONF'
stdio_handler = "file"
security_driver = "none"
CONF

# --- the place where the guests' parts live
mkdir -p "$root/var/lib/lab" "$root/run"

mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
printf '[Manager]\nDefaultTimeoutStopSec=10s\nDefaultMemoryAccounting=yes\n' \
  >"$root/etc/systemd/system.conf.d/lab.conf"

# --- what starts: basic.target, ssh, libvirt by its sockets.  The initrd loads the modules, sets up
# the network and the swap, so there is neither udev nor networkd.
units=$root/etc/systemd/system
cat >"$units/lab.target" <<'UNIT'
[Unit]
Description=KVM host of the lab
Requires=basic.target
After=basic.target
Wants=ssh.service
AllowIsolate=yes
UNIT
ln -sf lab.target "$units/default.target"
mkdir -p "$root/etc/systemd/system-generators"
for generator in fstab getty gpt-auto hibernate-resume import rc-local ssh system-update sysv tpm2; do
  ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
masked=(
  systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket
  systemd-udev-trigger.service systemd-udev-load-credentials.service
  systemd-network-generator.service systemd-networkd.socket systemd-networkd.service
  systemd-resolved.service systemd-timesyncd.service
  systemd-journal-flush.service systemd-journal-catalog-update.service systemd-random-seed.service
  systemd-boot-random-seed.service systemd-update-done.service systemd-update-utmp.service
  systemd-hwdb-update.service systemd-firstboot.service systemd-machine-id-commit.service
  systemd-sysusers.service systemd-modules-load.service systemd-remount-fs.service
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-hibernate-clear.service
  systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service
  kmod-static-nodes.service modprobe@.service ldconfig.service
  systemd-pcrmachine.service systemd-pcrphase-sysinit.service systemd-pcrphase.service
  systemd-tpm2-setup-early.service systemd-tpm2-setup.service systemd-pstore.service
  systemd-ask-password-console.path systemd-ask-password-wall.path
  sys-kernel-config.mount sys-fs-fuse-connections.mount dev-mqueue.mount run-lock.mount tmp.mount
  systemd-creds.socket systemd-hostnamed.socket systemd-importd.socket systemd-initctl.socket
  systemd-pcrextend.socket systemd-pcrlock.socket systemd-sysext.socket
  getty.target libvirt-guests.service memcached.service
  systemd-tmpfiles-clean.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
  e2scrub_all.timer fstrim.timer logrotate.timer man-db.timer
)
for unit in "${masked[@]}"; do ln -sf /dev/null "$units/$unit"; done
rm -f "$root/usr/lib/udev/hwdb.bin" "$root"/boot/initrd.img-*
