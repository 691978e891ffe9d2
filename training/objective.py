"""What training minimises: cross-entropy over the classes a corpus annotates, and a teacher's say.

nEMO has no disgusted clip, which says how nEMO was made and nothing about disgust. With the plain
loss every Polish clip would teach the model that Polish is never disgusted; over the classes that
a corpus annotates, it teaches only how those are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from training.config import Teaching


class Objective:
    """The loss of a batch; see `__call__`."""

    def __init__(
        self,
        *,
        label_smoothing: float,
        masked: bool,
        teaching: Teaching | None = None,
        teachers: Sequence[torch.nn.Module] = (),
    ) -> None:
        self._smoothing = label_smoothing
        self._masked = masked
        self._teaching = teaching
        self._teachers = teachers

    def __call__(self, logits: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The mean loss of a batch.

        Args:
            logits: [n, labels], of the model.
            inputs: labels, int [n]; annotated, bool [n, labels], where a batch is learned from;
                input_values, float32 [n, window], which the teachers hear too.
        """
        logits = logits.float()
        annotated = inputs.get("annotated")
        if annotated is None or not self._masked:
            annotated = torch.ones_like(logits, dtype=torch.bool)
        known = cross_entropy(logits, inputs["labels"], annotated, self._smoothing)
        if self._teaching is None or "annotated" not in inputs:
            return known
        taught = self._divergence(logits, inputs["input_values"], annotated)
        share = self._teaching.share
        return (1 - share) * known + share * taught

    def _divergence(
        self, logits: torch.Tensor, windows: torch.Tensor, annotated: torch.Tensor
    ) -> torch.Tensor:
        """KL divergence from the teachers' mean answer, both at the teaching's temperature."""
        if self._teaching is None:
            raise TypeError("no teaching")
        heat = self._teaching.temperature
        with torch.no_grad():
            heard = [teacher(windows) for teacher in self._teachers]
            each = [_among(answer.float() / heat, annotated).exp() for answer in heard]
            answers = torch.stack(each).mean(dim=0)
        own = _among(logits / heat, annotated).masked_fill(~annotated, 0)
        entropy = torch.special.entr(answers).sum(dim=1)
        # Hinton et al. 2015: the square keeps gradients as large as those of the labels.
        divergence: torch.Tensor = -(answers * own).sum(dim=1) - entropy
        return divergence.mean() * heat**2


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, annotated: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Cross-entropy among the annotated classes, with the smoothing shared by those only.

    Args:
        logits: float [n, labels].
        labels: int [n], each annotated.
        annotated: bool [n, labels].
        smoothing: the part of the target that all annotated classes share.
    """
    scores = _among(logits, annotated).masked_fill(~annotated, 0)
    picked = scores.gather(1, labels[:, None]).squeeze(1)
    spread = scores.sum(dim=1) / annotated.sum(dim=1)
    return -((1 - smoothing) * picked + smoothing * spread).mean()


def _among(logits: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Log probabilities among the annotated classes; -inf elsewhere."""
    among: torch.Tensor = logits.masked_fill(~annotated, -torch.inf).log_softmax(dim=1)
    return among
