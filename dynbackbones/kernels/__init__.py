"""Kernels that compute selected cells alone, for GPUs, each with a reference in plain PyTorch."""
