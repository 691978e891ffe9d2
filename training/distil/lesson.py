"""A distillation from configuration to checkpoint; it goes on where it was stopped."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm
from transformers import AutoModel, PreTrainedModel, TrainingArguments

from training import checkpoints, data, digests, launch
from training import model as models
from training.checkpoints import CHECKPOINTS, ResumableTrainer
from training.config import ConfigError
from training.distil import student as students
from training.distil.imitate import Imitator, Pair, measure
from training.distil.settings import DistilConfig, Imitation
from training.noises import decoded, for_training
from training.origins import origins
from training.recording import Recording
from training.sampling import Draws, Group
from training.train import TellEpoch, computes_in_bf16
from training.views import CentredWindows, TrainingWindows
from training.whisper import WaveformWhisperEncoder

ERRORS = "errors.json"
WEIGHTS = "model.safetensors"


def distil(config: DistilConfig, *, root: Path, run: Path, out: Path) -> dict[str, Any] | None:
    """Let the teacher teach the student, and write it to `out` in fp16 with its errors beside RUN.

    Args:
        config: who teaches whom, on what.
        root: folder with the recordings, noise/ and the checkpoints.
        run: gets checkpoints and errors.json; the same configuration goes on there.
        out: folder of the student, a `Wav2Vec2Model` checkpoint.

    Returns:
        What is in errors.json: the errors on `development` clips before and after, and the
        student's size; None in all but the first of several processes.

    Raises:
        ConfigError: the configuration or the data can't be used, or RUN or OUT is another's.
    """
    settings = config.distil
    cache = run.parent / "cache"
    with launch.first_alone():
        sets = _sets(config, root)
        _claim(config, sets, root, run)
        if made := _finished(run, out):
            if not launch.is_first():
                return None
            print(f"{out} is taught already.")
            return made
        if out.exists():
            raise ConfigError(f"{out} is there already; remove it, or give another --out.")
        training = data.prepare(sets["train"], cache)
        held_out = data.prepare(sets["development"], cache)
        teacher = models.encoder(settings.teacher, root)
    torch.manual_seed(settings.seed)
    pair = Pair(_student(settings, root, teacher), teacher, settings)
    imitator = Imitator(pair, settings)
    spec = config.windows.spec
    centred = CentredWindows(held_out, spec)
    last = checkpoints.newest(run / CHECKPOINTS)
    if last is None and launch.is_first():
        _write(run / ERRORS, {"start": _errors(imitator, pair, centred, settings)})
    noises = [decoded(path) for path in for_training(root / "noise")]
    windows = TrainingWindows(training, spec, config.augmentation, noises, settings.seed)
    rows = zip(training["corpus"], training["speaker"], training["label"], strict=True)
    draws = Draws([Group(*row) for row in rows], config.sampling, settings.seed)
    optimiser = torch.optim.AdamW(_groups(imitator, settings), weight_decay=settings.weight_decay)
    _Lesson(
        pair,
        draws,
        model=imitator,
        args=_arguments(settings, run / CHECKPOINTS),
        train_dataset=windows,
        optimizers=(optimiser, _schedule(optimiser, settings)),
        callbacks=[TellEpoch(draws)],
    ).train(resume_from_checkpoint=str(last) if last else None)
    if not launch.is_first():
        return None
    found = json.loads((run / ERRORS).read_text(encoding="utf-8"))
    found["end"] = _errors(imitator, pair, centred, settings)
    found |= {"clips": len(centred), "steps": settings.steps, **_size(pair.student, spec.window)}
    unfinished = out.absolute().with_name(f"{out.absolute().name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    pair.student.cpu().half().save_pretrained(unfinished, safe_serialization=True)
    found["sha256"] = digests.content(unfinished / WEIGHTS)
    _write(run / ERRORS, found)
    unfinished.replace(out)
    return dict(found)


class _Lesson(ResumableTrainer):
    """The teacher answers beside the student; everything else is transformers'."""

    def __init__(self, pair: Pair, draws: Draws, **arguments: Any) -> None:  # noqa: ANN401
        self._pair = pair
        self._draws = draws
        super().__init__(**arguments)
        pair.teacher.to(self.args.device)

    def _get_train_sampler(self, train_dataset: object = None) -> Draws:  # noqa: ARG002
        return self._draws

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's signature
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """How far the student is from its teacher."""
        windows = inputs["input_values"]
        with self.accelerator.autocast():
            taught = self._pair.teach(windows)
        loss: torch.Tensor = model(windows, taught)
        return (loss, {}) if return_outputs else loss


def _sets(config: DistilConfig, root: Path) -> dict[str, list[Recording]]:
    recordings = data.load(config.data, root)
    most = config.distil.max_clips
    sets = {split: data.thin(recordings, split, most) for split in ("train", "development")}
    if not sets["development"]:
        raise ConfigError(
            "There is nothing to measure the errors on: name some speakers of the training in "
            "[data] development_speakers."
        )
    return sets


def _finished(run: Path, out: Path) -> dict[str, Any] | None:
    """What was found, if this run has made what is in `out`."""
    errors, weights = run / ERRORS, out / WEIGHTS
    if not (errors.is_file() and weights.is_file()):
        return None
    found: dict[str, Any] = json.loads(errors.read_text(encoding="utf-8"))
    return found if found.get("sha256") == digests.content(weights) else None


def _claim(config: DistilConfig, sets: dict[str, list[Recording]], root: Path, run: Path) -> None:
    """Tie the folder to what the student is made of, so that no other's checkpoint is resumed.

    Raises:
        ConfigError: it holds another distillation.
    """
    claim = run / "run.json"
    settings = config.distil
    starts = sorted(filter(None, {settings.teacher, settings.student}))
    ours = {
        "config": config.model_dump(mode="json"),
        "training_data": data.digest(sets["train"]),
        "watched_data": data.digest(sets["development"]),
        **origins(starts, root),
    }
    if claim.is_file() and json.loads(claim.read_text(encoding="utf-8")) != ours:
        raise ConfigError(
            f"{run} holds a run of another configuration, of other data or with another number of "
            "processes; give another --run, or remove it."
        )
    if launch.is_first():
        run.mkdir(parents=True, exist_ok=True)
        _write(claim, ours)


def _student(settings: Imitation, root: Path, teacher: PreTrainedModel) -> PreTrainedModel:
    if settings.student is None:
        if not isinstance(teacher, WaveformWhisperEncoder):
            raise ConfigError(
                "Only of a Whisper can a new student be built; give [distil] student, a wav2vec2 "
                "checkpoint that goes on from where it is."
            )
        model: PreTrainedModel = students.of_whisper(teacher)
    else:
        model = AutoModel.from_pretrained(
            models.find(settings.student, root),
            dtype=torch.float32,
            use_safetensors=True,
            apply_spec_augment=False,  # what isn't heard can't be imitated
        )
    if model.config.model_type != "wav2vec2":
        raise ConfigError(f"The student is a {model.config.model_type}; give a wav2vec2.")
    model.config.layerdrop = 0.0  # a layer that is dropped leaves no state to compare
    if hasattr(model, "masked_spec_embed"):
        model.masked_spec_embed.requires_grad = False
    return model


def _groups(imitator: Imitator, settings: Imitation) -> list[dict[str, object]]:
    """Optimiser groups: layers learn slower than what is new; biases and norms don't decay."""
    slow = ("student.encoder.layers.", "student.encoder.layer_norm.")
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in imitator.named_parameters():
        if parameter.requires_grad:
            is_layer = name.startswith(slow)
            rate = settings.layer_learning_rate if is_layer else settings.front_end_learning_rate
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, **({} if decays else {"weight_decay": 0.0})}
        for (rate, decays), parameters in groups.items()
    ]


def _schedule(
    optimiser: torch.optim.Optimizer, settings: Imitation
) -> torch.optim.lr_scheduler.LambdaLR:
    constant = round(settings.constant_ratio * settings.steps)

    def share(step: int) -> float:
        falling = max(0, step - constant) / max(1, settings.steps - constant)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def _arguments(settings: Imitation, checkpoints: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        use_cpu=not torch.cuda.is_available(),
        bf16=computes_in_bf16(settings.precision),
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        logging_steps=10,
        seed=settings.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        remove_unused_columns=False,
    )


def _errors(
    imitator: Imitator, pair: Pair, windows: CentredWindows, settings: Imitation
) -> dict[str, object]:
    device = next(imitator.parameters()).device
    pair.teacher.to(device)
    starts = range(0, len(windows), settings.batch_size)

    def batch(start: int) -> torch.Tensor:
        chosen = range(start, min(start + settings.batch_size, len(windows)))
        return torch.from_numpy(np.stack([windows[i]["input_values"] for i in chosen])).to(device)

    return measure(imitator, pair, map(batch, tqdm(starts, desc="errors", unit="batch")))


def _size(student: PreTrainedModel, window: int) -> dict[str, float]:
    """Parameters, and operations (a multiplication and an addition are two) for a window."""
    device = next(student.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        student.eval()(torch.zeros(1, window, device=device))
    return {
        "parameters": student.num_parameters(),
        "gflop_per_window": round(counter.get_total_flops() / 1e9, 2),
    }


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
