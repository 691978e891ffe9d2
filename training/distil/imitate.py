"""How far a student is from hearing what its teacher hears, state by state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from training.config import ConfigError
from training.distil import frames
from training.distil.frames import MEL, Frames
from training.distil.settings import Imitation
from training.distil.student import KERNELS, STRIDES, hears_mel
from training.whisper import WaveformWhisperEncoder

MEL_LAYER = 2
"""Of the front end; it comes to hold the spectrogram."""
STILL = 1e-6
"""Of a state's mean variance: dimensions that vary less are taken to vary so much."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model makes of windows, cut to the frames that student and teacher share."""

    states: tuple[torch.Tensor, ...]
    """Into the first layer, then out of each that is compared: [n, frames, size] each."""
    mel: torch.Tensor | None
    """Log-mel + 1, [n, spectra, bands], where it is compared."""


class Pair:
    """Student and teacher with what aligns them; `student` is trained by whoever holds it.

    Raises:
        ConfigError: they can't be compared.
    """

    def __init__(
        self, student: PreTrainedModel, teacher: PreTrainedModel, settings: Imitation
    ) -> None:
        self.student = student
        self.teacher = teacher.eval().requires_grad_(requires_grad=False)
        ours, theirs = frames.of_model(student), frames.of_model(teacher)
        self._delay = frames.delay(ours, theirs)
        self._first = frames.offsets(ours, theirs, self._delay)
        layers, taught = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        if len(settings.layer_weights) != layers:
            raise ConfigError(
                f"[distil] layer_weights has {len(settings.layer_weights)} weights, but the "
                f"student has {layers} layers; give one for each."
            )
        self._taught = [round(layer * taught / layers) for layer in range(layers + 1)]
        """Which of the teacher's states each of the student's answers to."""
        self._bands = 0
        if isinstance(teacher, WaveformWhisperEncoder):
            bands = teacher.config.num_mel_bins
            self._bands = bands if hears_mel(student.config, bands) else 0
        spectra = frames.of_convolutions(
            list(KERNELS[: MEL_LAYER + 1]), list(STRIDES[: MEL_LAYER + 1])
        )
        self._first_mel = _whole(spectra, self._delay) if self._bands else 0

    def teach(self, windows: torch.Tensor) -> Heard:
        """What the teacher hears in windows [n, samples], without gradients."""
        with torch.no_grad():
            late = windows[:, self._delay :]
            states = _states(self.teacher, late)
            mel = None
            if self._bands:
                mel = self.teacher.log_mel(late).transpose(1, 2)[:, self._first_mel :] + 1
        return Heard(tuple(states[i][:, self._first[1] :] for i in self._taught), mel)

    def imitate(self, windows: torch.Tensor) -> Heard:
        """What the student hears in the same windows."""
        caught: list[torch.Tensor] = []
        hook = None
        if self._bands:
            layer = self.student.get_submodule(f"feature_extractor.conv_layers.{MEL_LAYER}")
            hook = layer.register_forward_hook(lambda *passed: caught.append(passed[-1]))
        try:
            states = _states(self.student, windows)
        finally:
            if hook:
                hook.remove()
        mel = caught[0][:, : self._bands].transpose(1, 2) if caught else None
        return Heard(tuple(state[:, self._first[0] :] for state in states), mel)


def _whole(spectra: Frames, delay: int) -> int:
    """The teacher's spectrum at the time of the student's first."""
    return frames.offsets(spectra, MEL, delay)[1]


def _states(model: PreTrainedModel, windows: torch.Tensor) -> list[torch.Tensor]:
    """What goes into the first layer, what comes out of each; the last after the final norm."""
    heard = model(windows, output_hidden_states=True)
    return [*heard.hidden_states[:-1], heard.last_hidden_state]


class Imitator(torch.nn.Module):
    """The student, and maps into the teacher's sizes where they differ, which are thrown away."""

    def __init__(self, pair: Pair, settings: Imitation) -> None:
        super().__init__()
        self.student = pair.student
        sizes = pair.student.config.hidden_size, pair.teacher.config.hidden_size
        states = 1 + len(settings.layer_weights)
        self.maps = torch.nn.ModuleList(
            torch.nn.Identity() if sizes[0] == sizes[1] else torch.nn.Linear(*sizes)
            for _ in range(states)
        )
        self._pair = pair
        self._weights = (settings.stem_weight, *settings.layer_weights)
        self._mel_weight = settings.mel_weight

    def hear(self, windows: torch.Tensor) -> Heard:
        """What the student hears, in the teacher's sizes."""
        heard = self._pair.imitate(windows)
        states = zip(self.maps, heard.states, strict=True)
        return Heard(tuple(into(state) for into, state in states), heard.mel)

    def forward(self, windows: torch.Tensor, taught: Heard) -> torch.Tensor:
        """The weighted sum of the errors of windows [n, samples]; see `error`."""
        heard = self.hear(windows)
        pairs = zip(self._weights, heard.states, taught.states, strict=True)
        total = sum(weight * error(mine, theirs) for weight, mine, theirs in pairs)
        if heard.mel is not None and taught.mel is not None:
            total = total + self._mel_weight * error(heard.mel, taught.mel)
        return torch.as_tensor(total)


def shared(mine: torch.Tensor, theirs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both [n, frames, size], cut to the frames that both have, as float32 [all frames, size]."""
    count = min(mine.shape[1], theirs.shape[1])
    return mine[:, :count].float().flatten(0, 1), theirs[:, :count].float().flatten(0, 1)


def error(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the teacher's variance, each per dimension, averaged over them.

    1 is what a student has that says the mean of what its teacher says.
    """
    mine, theirs = shared(mine, theirs)
    return normalised((mine - theirs).square().mean(dim=0), theirs.var(dim=0, correction=0))


def normalised(errors: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """The mean over dimensions of errors [size] over variances [size]."""
    return (errors / variances.clamp_min(STILL * variances.mean())).mean()


def measure(imitator: Imitator, pair: Pair, batches: Iterable[torch.Tensor]) -> dict[str, object]:
    """The errors on windows, with variances over all of them: stem, layers, and mel where heard."""
    totals: list[list[torch.Tensor]] = []
    imitator.eval()
    for windows in batches:
        with torch.inference_mode():
            taught, heard = pair.teach(windows), imitator.hear(windows)
        states = [*zip(heard.states, taught.states, strict=True)]
        if heard.mel is not None and taught.mel is not None:
            states.append((heard.mel, taught.mel))
        found = [_sums(*shared(mine, theirs)) for mine, theirs in states]
        totals = [_added(*both) for both in zip(totals, found, strict=True)] if totals else found
    errors = []
    for squares, first, second, count in totals:
        variances = second / count - (first / count).square()
        errors.append(round(float(normalised(squares / count, variances)), 4))
    layers = len(taught.states)
    result: dict[str, object] = {"stem": errors[0], "layers": errors[1:layers]}
    return result | ({"mel": errors[layers]} if len(errors) > layers else {})


def _added(some: list[torch.Tensor], more: list[torch.Tensor]) -> list[torch.Tensor]:
    return [a + b for a, b in zip(some, more, strict=True)]


def _sums(mine: torch.Tensor, theirs: torch.Tensor) -> list[torch.Tensor]:
    mine, theirs = mine.double(), theirs.double()
    count = torch.tensor(float(len(theirs)), dtype=torch.float64)
    squares = (mine - theirs).square().sum(dim=0)
    return [squares, theirs.sum(dim=0), theirs.square().sum(dim=0), count]
