"""Tables over variants, baselines and seeds."""
