"""PatchDrop's experiments at a scale for CPUs: digits anywhere, CIFAR-10, BagNet."""
