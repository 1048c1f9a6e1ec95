#!/bin/bash
# Install the product's Debian package on a host, as an operator does.
#   install.sh PACKAGE
# Any version takes the place of any other, and settings that were changed stay. Says nothing where that is
# the version that is installed already.
set -euo pipefail
package=$1
installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' overcommit 2>/dev/null || true)
[ "$installed" != "installed $(dpkg-deb -f "$package" Version)" ] || exit 0
DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
  --no-install-recommends --allow-downgrades install "$package"
