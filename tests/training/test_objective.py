"""What is minimised: classes that a corpus lacks have no say, and teachers have theirs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.config import Teaching
from training.objective import Objective, cross_entropy
from training.views import annotated

ALL = torch.ones(3, 6, dtype=torch.bool)
LABELS = torch.tensor([0, 4, 5])


@pytest.fixture
def logits() -> torch.Tensor:
    """Of three windows."""
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_every_class_it_is_cross_entropy(logits: torch.Tensor, smoothing: float) -> None:
    """As torch computes it."""
    expected = functional.cross_entropy(logits, LABELS, label_smoothing=smoothing)
    assert torch.allclose(cross_entropy(logits, LABELS, ALL, smoothing), expected)


def test_a_class_that_is_not_annotated_has_no_say(logits: torch.Tensor) -> None:
    """The loss is that of a model without the class, and nothing pulls its score down."""
    without = ALL.clone()
    without[:, 1] = False
    logits.requires_grad_()
    loss = cross_entropy(logits, LABELS, without, 0.1)
    (grown,) = torch.autograd.grad(loss, logits)
    five = logits.detach()[:, [0, 2, 3, 4, 5]]
    expected = functional.cross_entropy(five, torch.tensor([0, 3, 4]), label_smoothing=0.1)
    assert torch.allclose(loss.detach(), expected)
    assert torch.equal(grown[:, 1], torch.zeros(3))
    assert grown[:, 2].abs().min() > 0


def test_unmasked_it_pulls_down_what_a_corpus_lacks(logits: torch.Tensor) -> None:
    """`masked = false` is the plain loss, whatever is annotated."""
    without = ALL.clone()
    without[:, 1] = False
    objective = Objective(label_smoothing=0.0, masked=False)
    found = objective(logits, {"labels": LABELS, "annotated": without})
    assert torch.allclose(found, functional.cross_entropy(logits, LABELS))


def test_what_is_annotated_is_known_or_read_off_the_clips() -> None:
    """A published corpus annotates what its authors say, another the classes of its clips."""
    found = annotated(["a", "b", "a", "nemo", "aesdd"], [0, 1, 5, 2, 4])
    assert found["nemo"].tolist() == [True, False, True, True, True, True]
    # A clip that says otherwise than the authors is still told from something.
    assert found["aesdd"].all()
    assert found["a"].tolist() == [True, False, False, False, False, True]
    assert found["b"].tolist() == [False, True, False, False, False, False]


class _Teacher(torch.nn.Module):
    """Answers every window with the same logits."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self._answer = answer

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        assert windows.shape == (3, 10)
        return self._answer


def _taught(logits: torch.Tensor, *answers: torch.Tensor, share: float = 1.0) -> torch.Tensor:
    objective = Objective(
        label_smoothing=0.0,
        masked=True,
        teaching=Teaching(teachers=("somewhere",), share=share, temperature=2.0),
        teachers=[_Teacher(answer) for answer in answers],
    )
    inputs = {"labels": LABELS, "annotated": ALL, "input_values": torch.zeros(3, 10)}
    return objective(logits, inputs)


def test_agreeing_with_the_teacher_costs_nothing(logits: torch.Tensor) -> None:
    """The divergence from one's own answer is zero, and from another's it isn't."""
    assert float(_taught(logits, logits)) == pytest.approx(0, abs=1e-6)
    assert float(_taught(logits, logits.flip(1))) > 0.1


def test_several_teachers_teach_their_mean(logits: torch.Tensor) -> None:
    """Of probabilities at the temperature; compared with torch's own divergence."""
    other = logits.flip(1)
    mean = (torch.softmax(logits / 2, 1) + torch.softmax(other / 2, 1)) / 2
    own = torch.log_softmax(logits / 2, 1)
    expected = 4 * functional.kl_div(own, mean, reduction="batchmean")
    assert torch.allclose(_taught(logits, logits, other), expected)


def test_labels_and_teachers_share_the_loss(logits: torch.Tensor) -> None:
    """In the proportion asked."""
    other = logits.flip(1)
    known = functional.cross_entropy(logits, LABELS)
    expected = 0.75 * known + 0.25 * _taught(logits, other)
    assert torch.allclose(_taught(logits, other, share=0.25), expected)
