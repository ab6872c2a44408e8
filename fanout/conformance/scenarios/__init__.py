"""Everything a device is tried with: one function a scenario, `catalogue` has them all.

A scenario's docstring is what must be seen. It says what it does to a `Scene`, returns a word on what it saw, and
raises `Broken` or `NotShown`. Those that only speak of campaigns of their own run beside each other; those that
touch what all share (the connection, the beacons, the clock) run alone.
"""
