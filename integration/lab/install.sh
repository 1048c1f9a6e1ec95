#!/bin/bash
# Install the product's wheel on a host, as a user does on Debian: a venv in which Debian's own packages are in
# sight, and the commands on root's path.  Says nothing, and does nothing when this very wheel is installed.
#   install.sh WHEEL
# Making the venv takes an emulated processor half a minute and is the same each time, so the lab's image has
# one.
set -euo pipefail
wheel=$1 venv=/opt/overcommit
[ -x "$venv/bin/python" ] || python3 -m venv --system-site-packages "$venv"
mark=$venv/installed-$(sha256sum "$wheel" | cut -c1-16)
[ ! -e "$mark" ] || exit 0
"$venv/bin/python" -m pip install -q --no-deps --no-index --force-reinstall --no-compile \
  --no-cache-dir --disable-pip-version-check --no-input --root-user-action=ignore "$wheel"
ln -sf "$venv/bin/overcommitctl" "$venv/bin/overcommitd" /usr/local/bin/
rm -f "$venv"/installed-*
touch "$mark"
