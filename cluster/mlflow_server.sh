#!/usr/bin/env bash
# One MLflow server for the whole cluster, on its head and for the head alone: others reach it
# through a forwarded port.  It is started if it does not run, started again if it dies, and its
# database is copied to the shared store, where a new head finds it.
#
# usage: mlflow_server.sh start | stop      environment: SHAPESWEEP_STORE, folder or s3:// address
set -euo pipefail
store=${SHAPESWEEP_STORE:?names no shared store: see the top of cluster.yaml}
place=~/mlflow # on the head's own disk: SQLite is not safe on a network file system
database=$place/mlflow.db
mkdir -p "$place"

answers() {
  python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)" \
    2> /dev/null
}

keep_running() {
  exec 9> "$place/lock"
  flock --nonblock 9 || exit 0 # held by another that keeps it running, or by its server
  echo $$ > "$place/pid"
  python -m tuners.mlflow_backup restore "$database" "$store"
  python -m tuners.mlflow_backup keep "$database" "$store" 9>&- &
  while true; do
    # Without these two it is 15 processes and 1.7 GB.
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 \
      --host 127.0.0.1 --port 5000 --backend-store-uri "sqlite:///$database" \
      --serve-artifacts --artifacts-destination "$store/mlartifacts" || true
    sleep 2
  done
}

case ${1-} in
  start)
    # A session of its own: it outlives the SSH connection.
    setsid bash "$0" keep-running >> "$place/log" 2>&1 < /dev/null &
    for _ in {1..60}; do
      answers && exit 0
      sleep 1
    done
    echo "MLflow does not answer on 127.0.0.1:5000; the end of $place/log:" >&2
    tail -n 20 "$place/log" >&2
    exit 1
    ;;
  keep-running) keep_running ;;
  stop)
    kill -- "-$(cat "$place/pid")"
    flock --wait 30 "$place/lock" true # until the last of them is gone
    python -m tuners.mlflow_backup once "$database" "$store"
    ;;
  *)
    echo "usage: mlflow_server.sh start | stop" >&2
    exit 2
    ;;
esac
