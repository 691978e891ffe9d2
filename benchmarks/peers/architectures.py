"""The models of the benchmark in torch: the embedded one, and wav2vec2-base of random weights.

Speed doesn't depend on what the weights say, and no trained wav2vec2-base can be had offline. Where
the weights are random the head is centred on the clips of the benchmark, so that different clips
have different labels and a wrong answer shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from service.bundle import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from service.domain import Samples

NAMES = ("wav2vec2-base", "compact", "tiny")
LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
SEED = 0
LOGIT_SPREAD = 1.0
"""Standard deviation of a label's logits over the clips."""

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "classifier_proj_size": 16,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 1, 2),
    "conv_bias": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "initializer_range": 0.1,
}
"""As good as no model: what is left of a request's cost is the framework's."""


def build(name: str, windows: Samples) -> Any:  # noqa: ANN401 - transformers has no types for it
    """Make a model of `NAMES`, its weights rounded to fp16 and kept in float32.

    Args:
        name: which.
        windows: float32 [clips, samples], to centre a random head on.
    """
    if name == "compact":
        model = Wav2Vec2ForSequenceClassification.from_pretrained(
            DEFAULT_BUNDLE / "torch", dtype=torch.float32, local_files_only=True
        )
        return model.eval()
    sizes = TINY if name == "tiny" else {}  # wav2vec2-base is what Wav2Vec2Config is by default
    config = Wav2Vec2Config(
        **sizes,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        random: Any = Wav2Vec2ForSequenceClassification(config).eval()
    _centre(random, windows)
    return random.half().float()


def logits(model: Any, windows: Samples) -> Samples:  # noqa: ANN401 - transformers has no types for it
    """Score windows one by one: float32 [clips, labels]."""
    with torch.inference_mode():
        scored: Samples = torch.cat(
            [model(torch.from_numpy(window[None])).logits for window in windows]
        ).numpy()
    return scored


def _centre(model: Any, windows: Samples) -> None:  # noqa: ANN401 - transformers has no types for it
    said = torch.from_numpy(logits(model, windows).copy())
    scale = said.std(dim=0) / LOGIT_SPREAD
    with torch.no_grad():
        model.classifier.weight /= scale[:, None]
        model.classifier.bias -= said.mean(dim=0)
        model.classifier.bias /= scale
