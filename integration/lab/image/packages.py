"""What the host VM consists of."""

from __future__ import annotations

from typing import Final

SUITE: Final = "trixie"

#: Installed from the suite; the kernel here is the suite's own, the newer one is added from the
#: backports by ``customise.sh``.
HOST_PACKAGES: Final = (
    # the system
    "systemd", "systemd-sysv", "systemd-container", "udev", "kmod", "dbus", "openssh-server",
    "sudo", "rsync", "iproute2", "procps", "psmisc", "linux-image-cloud-amd64",
    # a KVM host
    "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86",
    "qemu-utils", "swtpm", "swtpm-tools",
    # what the product needs at run time, and the tool its results are checked against
    "python3", "python3-libvirt", "python3-yaml", "python3-pydantic", "python3-tenacity",
    "python3-click", "python3-rich", "python3-prometheus-client", "damo",
    # shells that the product completes words in
    "bash-completion", "zsh", "fish",
    # with which Ansible installs packages
    "python3-apt",
    # the contract tests run on the host VM's own kernel
    "python3-pytest",
    # parts of the guests
    "busybox-static", "memcached", "qemu-guest-agent",
)  # fmt: skip

#: Manual pages and translations only make the image larger; licences stay.
DPKG_OPTIONS: Final = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-confold",
)

#: Loaded by the host VM's initrd.  Drivers that a kernel has built in are skipped there.
HOST_MODULES: Final = (
    "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "zram", "kvm_amd", "kvm_intel",
)  # fmt: skip

#: Put into a guest's initramfs for its init to load.
GUEST_MODULES: Final = ("virtio_console", "virtio_blk", "virtio_balloon", "virtio_mem", "virtio_rng")

#: Programs that a guest can run, with the libraries they need: a key-value server, QEMU's guest agent.
GUEST_EXTRAS: Final = ("usr/bin/memcached", "usr/sbin/qemu-ga")

#: What builds and checks the Debian package, in a root of its own; debian/control has what it is built with.
BUILD_PACKAGES: Final = (
    "debhelper", "dh-python", "help2man", "lintian", "pybuild-plugin-pyproject", "python3-all",
    "python3-click", "python3-click-man", "python3-hatchling", "python3-prometheus-client",
    "python3-pydantic", "python3-rich", "python3-setuptools", "python3-tenacity", "python3-yaml",
)  # fmt: skip
