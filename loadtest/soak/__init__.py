"""Churn and faults for minutes on end, and whether the promise holds: ``make soak``."""
