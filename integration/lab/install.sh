#!/bin/bash
# Install the product's wheel in a host VM, as a user does on a Debian host: a venv in which Debian's own
# packages are in sight, and the commands on root's path.  Says nothing, and does nothing when this very
# wheel is installed.
#   install.sh WHEEL
# Making the venv takes an emulated processor half a minute and is the same each time, so it is part of the
# image.
set -euo pipefail
wheel=$1 venv=/opt/overcommit
mark=$venv/installed-$(sha256sum "$wheel" | cut -c1-16)
[ ! -e "$mark" ] || exit 0
"$venv/bin/python" -m pip install -q --no-deps --no-index --force-reinstall --no-compile \
  --no-cache-dir --disable-pip-version-check --no-input --root-user-action=ignore "$wheel"
ln -sf "$venv/bin/overcommitd" /usr/local/bin/
rm -f "$venv"/installed-*
touch "$mark"
