"""The JavaScript SDK: it does what the Python one does, and what is published is small, old and whole."""
