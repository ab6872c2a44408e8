"""Settings for the property tests of this folder. Knows nothing of what they test."""

from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine and nothing about a law.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")
