"""Tests of portfwd; none depends on how fast the machine is, so Hypothesis measures no time."""

from hypothesis import HealthCheck, settings

settings.register_profile("portfwd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("portfwd")
