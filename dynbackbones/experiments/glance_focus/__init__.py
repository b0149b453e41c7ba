"""Glance and Focus at a scale for CPUs: digits anywhere in larger scenes."""
