"""The whole product: real store, gateways, control plane and devices."""
