#!/bin/sh
# Prints the Secrets that an overlay with a Valkey of its own refers to, with new random values; keeps nothing.
#   deploy/k8s/secrets.sh single   | kubectl create -f -      # overlays local and loadtest
#   deploy/k8s/secrets.sh sentinel | kubectl create -f -      # overlays production and production-crds
# `create`, not `apply`: what is there already is kept, and no copy of it lands in an annotation.
set -eu
case "${1:-}" in
  single) scheme=redis hosts=valkey-0.valkey:6379 path="" ;;
  sentinel)
    scheme=redis+sentinel hosts=valkey-0.valkey,valkey-1.valkey,valkey-2.valkey path=/fanout
    ;;
  *)
    echo "send 'single' or 'sentinel': which Valkey the overlay has, got '${1:-}'" >&2
    exit 2
    ;;
esac
# Hexadecimal, for they stand in URLs.
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
control=$(random) gateway=$(random) keys=$(random) sentinel=$(random)
[ -z "$path" ] || path="$path?sentinel_password=$sentinel"

cat <<END
apiVersion: v1
kind: Secret
metadata: {name: fanout-device, namespace: fanout}
stringData:
  key: "$(random)"
---
apiVersion: v1
kind: Secret
metadata: {name: fanout-store, namespace: fanout}
stringData:
  control-url: "$scheme://fanout-control:$control@$hosts$path"
  gateway-url: "$scheme://fanout-gateway:$gateway@$hosts$path"
---
# For people who make API keys and accounts; no Pod has it.
apiVersion: v1
kind: Secret
metadata: {name: fanout-keys, namespace: fanout}
stringData:
  keys-url: "$scheme://fanout-keys:$keys@$hosts$path"
---
apiVersion: v1
kind: Secret
metadata: {name: valkey-passwords, namespace: fanout}
stringData:
  control: "$control"
  gateway: "$gateway"
  keys: "$keys"
  replica: "$(random)"
  sentinel: "$sentinel"
END
