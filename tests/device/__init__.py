"""Tests of the Python device SDK."""
