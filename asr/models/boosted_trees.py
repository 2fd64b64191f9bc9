"""Gradient-boosted regression trees, applied: the sum of what many small decision trees say.

J. H. Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29 (2001). Training
is scikit-learn's (`asr.training.pronunciation`); application needs numpy alone.

Letters: N rows, F features, M trees, S nodes of all trees together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

BLOCK_ROWS = 512  # that go through the trees at once, so that memory does not grow with the rows


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Trees that lead a row from node to node: to the right where a feature is above a node's threshold, else left.

    Attributes
    ----------
    baseline
        What is added to the sum of the trees.
    roots : (M,)
        The first node of each tree.
    features : (S,)
        The feature that a node asks for; any number in a leaf.
    left : (S,)
        The node to the left, behind which the node to the right stands; 0 in a leaf.
    numbers : (S,)
        The threshold of a node, or the value of a leaf.

    Examples
    --------
    >>> stump = BoostedTrees(1.0, np.array([0]), np.zeros(3, int), np.array([1, 0, 0]), np.array([0.5, -1.0, 2.0]))
    >>> stump.predict(np.array([[0.5], [0.6]]))
    array([0., 3.])
    """

    baseline: float
    roots: np.ndarray
    features: np.ndarray
    left: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """Make the trees of what `tensors` returned.

        Raises
        ------
        KeyError, ValueError
            A tensor is missing, or the nodes are not those of trees.
        """
        roots, features, left = (tensors[f"trees.{name}"].astype(np.intp) for name in ("roots", "features", "left"))
        trees = cls(float(tensors["trees.baseline"][0]), roots, features, left, tensors["trees.numbers"])
        size, numbers = len(trees.numbers), np.arange(len(trees.numbers))
        # A node stands before those that it leads to, so that every row comes to a leaf.
        falls = ((left == 0) | ((left > numbers) & (left < size - 1))).all() if len(left) == size else False
        if not falls or features.shape != left.shape or (len(roots) > 0 and not 0 <= roots.min() <= roots.max() < size):
            raise ValueError("the nodes are not those of trees")
        return trees

    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything by name, in small types."""
        return {
            "trees.baseline": np.array([self.baseline], np.float32),
            "trees.roots": self.roots.astype(np.int32),
            "trees.features": self.features.astype(np.uint8),
            "trees.left": self.left.astype(np.int32),
            "trees.numbers": self.numbers.astype(np.float32),
        }

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the sums (N,) for rows (N, F)."""
        blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
        return np.concatenate([self._predict(block) for block in blocks]) if blocks else np.empty(0)

    def _predict(self, rows: np.ndarray) -> np.ndarray:
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        while True:
            following = self.left[nodes]
            if not following.any():
                return self.baseline + self.numbers[nodes].sum(axis=1, dtype=np.float64)
            is_above = np.take_along_axis(rows, self.features[nodes], axis=1) > self.numbers[nodes]
            nodes = np.where(following > 0, following + is_above, nodes)
