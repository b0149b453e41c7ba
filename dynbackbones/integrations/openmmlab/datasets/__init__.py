"""Datasets in the idiom of mmseg and mmpretrain; configs import them by name."""
