"""Decode heads that mmseg lacks."""
