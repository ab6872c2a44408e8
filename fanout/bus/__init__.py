"""The bus: one publication log, its doorbell, and presence, on Redis or Valkey."""
