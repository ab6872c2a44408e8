"""Any bytes at all: what must hold for them, and who tries to find bytes for which it does not."""
