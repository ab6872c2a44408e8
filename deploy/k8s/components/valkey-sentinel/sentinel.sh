#!/bin/sh
# Starts one Sentinel: settings anew at every start; what it has found out (who leads, who else is there) is kept.
set -eu
umask 077
secret() { cat "$SECRETS/$1"; }

found=""
if [ -e "$DATA/sentinel.conf" ]; then
  found=$(grep -E '^sentinel (myid|monitor|config-epoch|leader-epoch|current-epoch|known-replica|known-sentinel) ' \
    "$DATA/sentinel.conf" || true)
fi
{
  echo "port $PORT"
  echo "dir $DATA"
  echo "protected-mode no"
  echo "requirepass $(secret sentinel)"
  echo "sentinel sentinel-pass $(secret sentinel)"
  # Pods change their addresses and keep their names.
  echo "sentinel resolve-hostnames yes"
  echo "sentinel announce-hostnames yes"
  echo "sentinel announce-ip $HOST"
  echo "sentinel announce-port $PORT"
  if [ -n "$found" ]; then
    echo "$found"
  else
    echo "sentinel monitor fanout ${FIRST%:*} ${FIRST##*:} 2"
  fi
  echo "sentinel auth-user fanout sentinel"
  echo "sentinel auth-pass fanout $(secret sentinel)"
  echo "sentinel down-after-milliseconds fanout 5000"
  echo "sentinel failover-timeout fanout 30000"
} >"$DATA/sentinel.conf.new"
mv "$DATA/sentinel.conf.new" "$DATA/sentinel.conf"
exec "${SERVER:-valkey-server}" "$DATA/sentinel.conf" --sentinel
