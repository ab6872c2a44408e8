"""The JavaScript SDK where it lives: in pages of a real Chromium, against the real product."""
