#!/bin/sh
# Starts one server: settings and logins anew at every start, its role as it was. FIRST is the primary of a new store;
# afterwards Sentinel decides, and writes the role into the file on the volume.
set -eu
umask 077
secret() { cat "$SECRETS/$1"; }

sed -e "s/CONTROL_PASSWORD/$(secret control)/" -e "s/GATEWAY_PASSWORD/$(secret gateway)/" \
  -e "s/KEYS_PASSWORD/$(secret keys)/" -e "s/REPLICA_PASSWORD/$(secret replica)/" \
  -e "s/SENTINEL_PASSWORD/$(secret sentinel)/" "$SETTINGS/users.acl" >"$DATA/users.acl"

role=""
if [ -e "$DATA/valkey.conf" ]; then
  role=$(grep '^replicaof ' "$DATA/valkey.conf" || true)
elif [ "$HOST:$PORT" != "$FIRST" ]; then
  role="replicaof ${FIRST%:*} ${FIRST##*:}"
fi
{
  cat "$SETTINGS/valkey.conf"
  echo "port $PORT"
  echo "dir $DATA"
  echo "aclfile $DATA/users.acl"
  echo "masteruser replica"
  echo "masterauth $(secret replica)"
  echo "replica-announce-ip $HOST"
  echo "replica-announce-port $PORT"
  # A primary that is cut off from its replicas stops taking writes (docs/operations.md).
  echo "min-replicas-to-write $REPLICAS_TO_WRITE"
  echo "$role"
} >"$DATA/valkey.conf.new"
mv "$DATA/valkey.conf.new" "$DATA/valkey.conf"
exec "${SERVER:-valkey-server}" "$DATA/valkey.conf"
