#!/bin/bash
# Run a command in this checkout as somebody who can have machines; "make vagrant-box" and "make vagrant-test"
# use it.
#   as_user.sh COMMAND...
# An ordinary user, and root where there is a system libvirt, just runs it.  For any other root it is the user
# that setup.sh made, in a copy of the checkout in his home: root's own may be closed to him, and he writes
# where he works.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
cd "$checkout"
if [ "$(id -u)" != 0 ] || [ -S /run/libvirt/libvirt-sock ]; then exec "$@"; fi

user=overcommit-vagrant
home=$(getent passwd "$user" | cut -d: -f6) || { echo "no user $user: run vagrant/setup.sh" >&2; exit 2; }
rsync --archive --delete --chown="$user:$user" --exclude={/.git,/.venv,/dist,/artifacts,.vagrant} \
  --exclude={__pycache__,.mypy_cache,.ruff_cache,.pytest_cache,.hypothesis} ./ "$home/overcommit/"
cd "$home/overcommit"
# Without a runtime directory libvirt keeps its sockets below the home.  Paths into root's home are no use.
exec runuser -u "$user" -- env -u XDG_RUNTIME_DIR -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u TMPDIR \
  -u VAGRANT_HOME -u LIBVIRT_DEFAULT_URI -u OVERCOMMIT_LAB_CACHE -u PYTHONPATH \
  -u PYTHON -u MAKEFLAGS -u MAKELEVEL HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
