"""How many inputs are tried: a few in every run, thousands with DISCERN_FUZZ=long (``make fuzz``)."""

import os

from hypothesis import HealthCheck, Phase, settings

# A slow machine is no failure; what hangs is ended by ``tests.hostile.bounds.guarded``.
COMMON = {
    "deadline": None,
    "database": None,
    # Inputs are small, and looking for smaller ones takes minutes.
    "phases": [Phase.explicit, Phase.generate],
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}

settings.register_profile("quick", max_examples=60, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=4000, **COMMON)
settings.load_profile(os.environ.get("DISCERN_FUZZ", "quick"))
