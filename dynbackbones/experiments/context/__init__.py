"""Spatial context networks at a scale for CPUs, beside distillation and nothing."""
