"""Faults, caused for real; README.md lists them, each with the law it proves."""
