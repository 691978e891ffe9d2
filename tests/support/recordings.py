"""A folder of recordings and a checkpoint, made on the spot and laid out as training wants them.

python -m tests.support.recordings FOLDER
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from tests.support.audio import encoded, speech_like

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
SPEAKERS = {"train": ("one", "two"), "validation": ("three", "five"), "test": ("four",)}


def make(root: Path) -> Path:
    """Write 30 clips of five corpora in three splits, two noises, and a tiny checkpoint.

    The checkpoint has random weights, so that what is trained from it is worth nothing.

    Args:
        root: made if need be.

    Returns:
        The same folder, for --data.
    """
    (root / "speech").mkdir(parents=True)
    (root / "noise").mkdir()
    rows: list[list[str]] = []
    for split, speakers in SPEAKERS.items():
        for speaker in speakers:
            for number, label in enumerate(LABELS):
                name = f"{speaker}-{label}.flac"
                sound = speech_like(1.0 + 0.1 * number, seed=len(rows))
                (root / "speech" / name).write_bytes(encoded(sound, container="FLAC"))
                rows.append([name, f"corpus-{speaker}", speaker, "en", label, split])
    with (root / "speech" / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "corpus", "speaker", "language", "label", "split"])
        writer.writerows(rows)
    for name in ("rain.wav", "helicopter.wav"):
        noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
        (root / "noise" / name).write_bytes(encoded(noise.astype(np.float32)))
    _checkpoint(root / "checkpoint")
    return root


def _checkpoint(folder: Path) -> None:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                conv_dim=(16, 16),
                conv_kernel=(400, 3),
                conv_stride=(160, 2),
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
                feat_extract_norm="layer",
                do_stable_layer_norm=True,
                apply_spec_augment=False,
            )
        )
    model.save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
