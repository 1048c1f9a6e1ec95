#!/bin/sh
# What packages have beside the Python code, all of it made from the program itself: manual pages, completions, units.
# Debian's and the RPM package both run this in the source tree.
#   build.sh OUTPUT VERSION OPTIONS_FILE
# OPTIONS_FILE is where the distribution keeps the options of services.
set -eu
output=$1 version=$2 options=$3

python() { PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 python3 "$@"; }

# The built program runs, to describe itself.
page() { # PROGRAM MODULE NAME
  printf '#!/bin/sh\nPYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 exec python3 -c "from %s import main; main()" "$@"\n' \
    "$2" >"$output/$1"
  chmod +x "$output/$1"
  help2man --section=8 --no-info --no-discard-stderr --version-string="$version" --name="$3" \
    --output="$output/man/$1.8" "$output/$1"
}

completion() { # SHELL FILE
  python -c 'from overcommit.cli.main import main; main()' completion "$1" >"$output/completion/$2"
}

mkdir -p "$output/man" "$output/completion"
python contrib/package/manual_pages.py "$output/man"
page overcommitd overcommit.daemon.main 'memory overcommit daemon for KVM hosts'
page overcommit-exporter overcommit.exporter.main 'metrics of overcommitd for Prometheus'
completion bash overcommitctl
completion zsh _overcommitctl
completion fish overcommitctl.fish

# The unit is that of "overcommitctl service", but for where options are written and who says so.
sed -e "1s,.*,# Options: $options. Other changes: systemctl edit overcommitd," \
  -e 's,@OVERCOMMITD@,/usr/bin/overcommitd $OVERCOMMITD_OPTIONS,' -e 's,@OVERCOMMITCTL@,/usr/bin/overcommitctl,' \
  -e "/^\[Service\]/a EnvironmentFile=-$options" \
  -e '/^Description=/a Documentation=man:overcommitd(8) man:overcommitctl(8)' \
  overcommit/daemon/overcommitd.service >"$output/overcommitd.service"
sed -e '1s,.*,# Changes: systemctl edit overcommit-exporter,' -e 's,@EXPORTER@,/usr/bin/overcommit-exporter,' \
  -e '/^Description=/a Documentation=man:overcommit-exporter(8)' \
  overcommit/exporter/overcommit-exporter.service >"$output/overcommit-exporter.service"
