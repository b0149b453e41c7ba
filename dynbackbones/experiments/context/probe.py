"""Linear classifiers on features: what these tell of the class."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

from torch import Tensor

from dynbackbones.errors import UserError


class Labelled(NamedTuple):
    """Features (N, C) and classes (N,)."""

    features: Tensor
    labels: Tensor


def accuracy(train: Labelled, test: Labelled, freedom: float = 0.01) -> float:
    """Top-1 accuracy in percent of a logistic regression on standardised features.

    Args:
        train, test: what it learns from, and what the result is of.
        freedom: scikit-learn's C; less holds the weights smaller.

    Raises:
        UserError: scikit-learn is missing.
    """
    _check_installed()
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=freedom, max_iter=300)
    return _scored(make_pipeline(StandardScaler(), regression), train, test)


def box_accuracy(train: Labelled, test: Labelled, seed: int) -> float:
    """Top-1 accuracy in percent of boosted trees, for features that are coordinates.

    Args:
        train, test: what they learn from, and what the result is of.
        seed: of their validation.

    Raises:
        UserError: scikit-learn is missing.
    """
    _check_installed()
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, random_state=seed)
    return _scored(trees, train, test)


def _check_installed() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise UserError(
            "linear classifiers need sklearn; install it with pip install 'dynbackbones[demo]'"
        )


def _scored(model: Any, train: Labelled, test: Labelled) -> float:
    model.fit(train.features.numpy(), train.labels.numpy())
    return 100 * float(model.score(test.features.numpy(), test.labels.numpy()))
