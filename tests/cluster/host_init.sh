#!/usr/bin/env bash
# The first process of a host; tests/cluster/hosts.py starts it in namespaces of its own.  The host
# sees this machine's files, read-only, but has its own home, /tmp, /run and /dev/shm.
#
# environment: HOST_NAME, HOST_IP, HOST_ROOT (its own files), HOST_KEY (of its SSH server),
# HOST_SHARED (folder behind /mnt/shared, or nothing), HOST_VISIBLE (folders, with colons between),
# HOST_PUBLIC (second address, or nothing), HOST_USER (another name for root, or nothing),
# HOST_ROUTE (yes: every address is looked for in the hosts' own network; else only theirs)
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
# Nobody answers for names, and that at once; where this is a link into /run there is no such file.
if [ -e /etc/resolv.conf ]; then
  echo "nameserver 127.0.0.1" > /run/resolv.conf
  mount --bind /run/resolv.conf /etc/resolv.conf
fi
if [ -n "$HOST_USER" ]; then
  { cat /etc/passwd; echo "$HOST_USER:x:0:0::$HOME:/bin/bash"; } > /run/passwd
  mount --bind /run/passwd /etc/passwd
fi
mount -o remount,bind,ro /
cd "$HOME"
ip link set lo up
for _ in {1..200}; do
  ip link show eth0 > /dev/null 2>&1 && break # hosts.py plugs it in
  sleep 0.05
done
ip address add "$HOST_IP/16" dev eth0
[ -z "$HOST_PUBLIC" ] || ip address add "$HOST_PUBLIC/32" dev eth0
ip link set eth0 up
[ "$HOST_ROUTE" != yes ] || ip route add default dev eth0 src "$HOST_IP"
# UsePAM=no: PAM would want this machine's own accounts and logs.
exec /usr/sbin/sshd -D -e -f /dev/null -o Port=22 \
  -o HostKey=/run/sshd_key -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no \
  -o UsePAM=no -o StrictModes=no -o PidFile=none -o MaxStartups=50:30:100 -o MaxSessions=50 \
  -o Subsystem='sftp internal-sftp'
