# BlockDrop's table 2.3 and figure 2.2: what a wrong prediction costs, against blocks and accuracy.
variants = {f"gamma {gamma}": {"model.gamma": gamma} for gamma in (2, 5, 10)}
variant_metrics = ["accuracy/top1", "policy/blocks", "gmacs", "distinct_policies"]
