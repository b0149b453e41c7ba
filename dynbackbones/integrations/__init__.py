"""Adapters to frameworks. Nothing is imported here: each needs its framework."""
