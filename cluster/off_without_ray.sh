#!/usr/bin/env bash
# Turns a rented machine off once Ray has not run on it for a while: a head that is lost gives its
# workers back to nobody, and Ray on them ends within a minute or two.
#
# usage: off_without_ray.sh [SECONDS [BETWEEN]]    # returns at once where it is watched already
set -euo pipefail
patience=${1:-1800} # longer than a set-up takes
between=${2:-10}
exec 9> ~/.off_without_ray.lock
flock --nonblock 9 || exit 0
seen=$SECONDS
while ((SECONDS - seen < patience)); do
  sleep "$between"
  status=0
  pgrep -x raylet > /dev/null || status=$?
  # 1 is "none"; whatever else is wrong turns no machine off.
  if ((status != 1)); then seen=$SECONDS; fi
done
sudo shutdown -h now
