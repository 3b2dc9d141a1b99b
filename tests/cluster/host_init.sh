#!/usr/bin/env bash
# The first process of a host; tests/cluster/hosts.py starts it in namespaces of its own.  The host
# sees this machine's files, read-only, but has its own home, /tmp, /run and /dev/shm.
#
# environment: HOST_NAME, HOST_IP, HOST_ROOT (its own files), HOST_KEY (of its SSH server),
# HOST_SHARED (folder behind /mnt/shared, or nothing), HOST_VISIBLE (folders, with colons between)
set -euo pipefail
hostname "$HOST_NAME"
mount --make-rprivate /
mount -t tmpfs -o size=16g tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
if [ -n "$HOST_SHARED" ]; then
  mkdir /mnt/shared
  mount --bind "$HOST_SHARED" /mnt/shared
fi
mkdir /run/sshd
install -m 600 "$HOST_KEY" /run/sshd_key
# What lies in a folder that is about to be hidden comes back inside of it.
IFS=: read -ra visible <<< "$HOST_VISIBLE"
for place in "${visible[@]}"; do
  case $place in
    "$HOME"/* | /tmp/*)
      mkdir -p "$HOST_ROOT$place"
      mount --bind -o ro "$place" "$HOST_ROOT$place"
      ;;
  esac
done
exec 3< "$HOST_ROOT" # the next two lines may hide it
mount --rbind "/proc/self/fd/3/$HOME" "$HOME"
mount --rbind /proc/self/fd/3/tmp /tmp
exec 3<&-
mount -o remount,bind,ro /
cd "$HOME"
ip link set lo up
for _ in {1..200}; do
  ip link show eth0 > /dev/null 2>&1 && break # hosts.py plugs it in
  sleep 0.05
done
ip address add "$HOST_IP/24" dev eth0
ip link set eth0 up
# UsePAM=no: PAM would want this machine's own accounts and logs.
exec /usr/sbin/sshd -D -e -f /dev/null -o Port=22 -o ListenAddress="$HOST_IP" \
  -o HostKey=/run/sshd_key -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no \
  -o UsePAM=no -o StrictModes=no -o PidFile=none -o MaxStartups=50:30:100 -o MaxSessions=50 \
  -o Subsystem='sftp internal-sftp'
