"""A small Whisper teaches a small wav2vec2, on recordings made on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModel, Trainer, Wav2Vec2Config, Wav2Vec2Model

from tests.support.audio import speech_like
from training.__main__ import main
from training.config import ConfigError, Windows, read
from training.data_settings import Data
from training.distil import frames, lesson
from training.distil import student as students
from training.distil.frames import Frames
from training.distil.imitate import Imitator, Pair, error, measure
from training.distil.settings import DistilConfig, Imitation
from training.whisper import WaveformWhisperConfig, WaveformWhisperEncoder

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SETTINGS = Imitation(
    teacher="teacher",
    steps=6,
    batch_size=4,
    layer_weights=(0.5, 1.0),
    checkpoint_steps=2,
    precision="fp32",
)
CONFIG = DistilConfig(
    data=Data(development_speakers=("two",)),
    windows=Windows(window_s=1.0, hop_s=0.5),
    distil=SETTINGS,
)


def whisper(size: int = 16) -> WaveformWhisperEncoder:
    """A Whisper of two layers and random weights."""
    torch.manual_seed(0)
    config = WaveformWhisperConfig(
        d_model=size,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        max_source_positions=150,
    )
    encoder = WaveformWhisperEncoder(config)
    torch.nn.Module.eval(encoder)
    return encoder


def relative(size: int = 16) -> Wav2Vec2Model:
    """A wav2vec2 of two layers, random weights and the usual frame rate."""
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        hidden_size=size,
        num_hidden_layers=2,
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
    model = Wav2Vec2Model(config)
    torch.nn.Module.eval(model)
    return model


def batch(count: int = 4) -> torch.Tensor:
    """Windows of a second, of zero mean and unit variance."""
    sound = np.stack([speech_like(1.0, seed=seed) for seed in range(count)])
    sound -= sound.mean(axis=1, keepdims=True)
    return torch.from_numpy(sound / sound.std(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recordings, with a teacher beside them."""
    root = tmp_path_factory.mktemp("lesson")
    for name in ("speech", "noise"):
        (root / name).symlink_to(data / name)
    whisper().save_pretrained(root / "teacher")
    return root


class TestFrames:
    """Which frames are at the same time."""

    def test_the_student_of_whisper_is_a_frame_ahead(self) -> None:
        """Its frame t is Whisper's t + 1 of the sound from sample 200 on."""
        student = frames.of_convolutions(list(students.KERNELS), list(students.STRIDES))
        teacher = frames.of_model(whisper())
        assert frames.delay(student, teacher) == 200
        assert frames.offsets(student, teacher, 200) == (0, 1)

    def test_the_same_model_is_at_the_same_time(self) -> None:
        """No sample is left out, no frame."""
        same = frames.of_model(relative())
        assert frames.delay(same, same) == 0
        assert frames.offsets(same, same, 0) == (0, 0)

    def test_a_teacher_may_begin_later(self) -> None:
        """Then the student's first frames have no counterpart."""
        student, teacher = Frames(199.5, 320), Frames(519.5, 320)
        assert frames.delay(student, teacher) == 0
        assert frames.offsets(student, teacher, 0) == (1, 0)

    def test_another_frame_rate_is_refused(self) -> None:
        """Frames that don't fall together can't be compared."""
        with pytest.raises(ConfigError, match="same frame rate"):
            frames.delay(Frames(0, 320), Frames(0, 640))

    @pytest.mark.parametrize("place", [4000, 8123, 12_345])
    def test_a_click_is_in_frames_that_correspond(self, place: int) -> None:
        """Stems without positions react to it most in the same frame of what is compared."""
        teacher = whisper()
        with torch.no_grad():
            teacher.embed_positions.weight.zero_()
        pair = Pair(students.of_whisper(teacher), teacher, SETTINGS)
        quiet = 1e-3 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
        click = quiet.clone()
        click[0, place] = 1.0
        # A window's level is not heard: both have the same loudest sample, elsewhere.
        quiet[0, 300] = click[0, 300] = 1.0

        def reaction(before: torch.Tensor, after: torch.Tensor) -> float:
            change = (after - before).square().sum(dim=2)[0]
            change[:3] = 0
            return float((change * torch.arange(len(change))).sum() / change.sum())

        with torch.no_grad():
            taught = reaction(pair.teach(quiet).states[0], pair.teach(click).states[0])
            heard = reaction(pair.imitate(quiet).states[0], pair.imitate(click).states[0])
        assert abs(taught - heard) < 0.5


class TestStudent:
    """Where a student begins."""

    def test_its_layers_are_the_teacher_s(self) -> None:
        """The same input goes through them to the same output."""
        teacher = whisper()
        student = students.of_whisper(teacher).eval()
        hidden = torch.randn(2, 30, 16)
        with torch.no_grad():
            expected, got = hidden, hidden
            for mine, theirs in zip(student.encoder.layers, teacher.layers, strict=True):
                expected, got = theirs(expected, None), mine(got)
            expected, got = teacher.layer_norm(expected), student.encoder.layer_norm(got)
        assert torch.allclose(got, expected, atol=1e-5)

    def test_it_begins_with_a_spectrogram(self) -> None:
        """Its third convolution tells loud bands from quiet ones before it has learned anything."""
        teacher = whisper()
        pair = Pair(students.of_whisper(teacher).eval(), teacher, SETTINGS)
        windows = batch()
        with torch.no_grad():
            heard, taught = pair.imitate(windows).mel, pair.teach(windows).mel
        assert heard is not None
        assert taught is not None
        count = min(heard.shape[1], taught.shape[1])
        both = torch.stack((heard[:, :count].flatten(), taught[:, :count].flatten()))
        assert torch.corrcoef(both)[0, 1] > 0.5

    def test_positions_begin_as_nothing(self) -> None:
        """The positional convolution adds next to nothing to its input."""
        student = students.of_whisper(whisper())
        hidden = torch.randn(1, 40, 16)
        with torch.no_grad():
            added = student.encoder.pos_conv_embed(hidden)
        assert added.abs().max() < 0.05 * hidden.abs().max()


class TestError:
    """What is minimised."""

    def test_the_mean_has_error_one(self) -> None:
        """And the truth has none, whatever the scale of a dimension is."""
        scales = torch.tensor([1.0, 100.0, 0.1])
        truth = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * scales
        assert float(error(truth.mean(dim=(0, 1)).expand_as(truth), truth)) == pytest.approx(1)
        assert float(error(truth, truth)) == 0

    def test_frames_beyond_the_shorter_are_left_out(self) -> None:
        """Neither model needs to have as many as the other."""
        truth = torch.randn(1, 10, 3)
        assert float(error(truth[:, :8], truth)) == 0

    def test_measuring_in_batches_changes_nothing(self) -> None:
        """Variances are those of all windows."""
        teacher = whisper()
        pair = Pair(students.of_whisper(teacher), teacher, SETTINGS)
        imitator, windows = Imitator(pair, SETTINGS), batch()
        whole = measure(imitator, pair, [windows])
        assert measure(imitator, pair, [windows[:1], windows[1:]]) == whole
        assert list(whole) == ["stem", "layers", "mel"]

    def test_sizes_may_differ(self) -> None:
        """The error reaches the student through maps that are not part of it."""
        pair = Pair(relative(16), relative(24), SETTINGS)
        imitator, windows = Imitator(pair, SETTINGS), batch(2)
        imitator(windows, pair.teach(windows)).backward()
        reached = dict(pair.student.named_parameters())["encoder.layers.0.layer_norm.weight"].grad
        assert reached is not None
        assert reached.abs().sum() > 0
        assert all(parameter.grad is None for parameter in pair.teacher.parameters())
        assert not any("maps" in name for name in pair.student.state_dict())

    def test_each_layer_needs_a_weight(self) -> None:
        """A student of two layers has no use for four."""
        with pytest.raises(ConfigError, match="student has 2 layers"):
            Pair(relative(), relative(), Imitation())


class _Killed(Exception):
    """Stands for a kill."""


class TestLesson:
    """The whole of it."""

    @pytest.fixture(scope="class")
    def made(self, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of a run that wasn't stopped."""
        run = tmp_path_factory.mktemp("runs") / "run"
        lesson.distil(CONFIG, root=root, run=run, out=run / "student")
        return run

    def test_the_errors_fall(self, made: Path) -> None:
        """A few steps take the student nearer to its teacher, on speakers it doesn't hear."""
        found = json.loads((made / "errors.json").read_text())
        assert found["end"]["stem"] < found["start"]["stem"]
        assert found["end"]["mel"] < found["start"]["mel"]
        assert found["clips"] == 6
        assert found["gflop_per_window"] > 0

    def test_what_is_left_is_a_checkpoint(self, made: Path) -> None:
        """It is opened as one, in half the bytes, with the parameters that are told."""
        model = AutoModel.from_pretrained(made / "student", dtype=torch.float32)
        assert isinstance(model, Wav2Vec2Model)
        assert (
            model.num_parameters() == json.loads((made / "errors.json").read_text())["parameters"]
        )
        weights = load_file(made / "student" / "model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float16}

    def test_a_killed_run_goes_on_to_the_same_result(
        self, made: Path, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed between checkpoints, in the middle of an epoch, it ends with the same bytes."""
        run = made.parent / "killed"
        usual = lesson._Lesson.training_step
        done: list[bool] = []

        def step(self: Trainer, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
            if len(done) == 3:
                raise _Killed
            done.append(True)
            return usual(self, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(lesson._Lesson, "training_step", step)
            with pytest.raises(_Killed):
                lesson.distil(CONFIG, root=root, run=run, out=run / "student")
        assert not (run / "student").exists()
        lesson.distil(CONFIG, root=root, run=run, out=run / "student")
        weights = "student/model.safetensors"
        assert (run / weights).read_bytes() == (made / weights).read_bytes()
        assert (run / "errors.json").read_text() == (made / "errors.json").read_text()

    def test_a_finished_run_is_not_done_again(
        self, made: Path, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It says so, and what was found is the answer."""
        before = (made / "student" / "model.safetensors").stat().st_mtime_ns
        found = lesson.distil(CONFIG, root=root, run=made, out=made / "student")
        assert "taught already" in capsys.readouterr().out
        assert found == json.loads((made / "errors.json").read_text())
        assert (made / "student" / "model.safetensors").stat().st_mtime_ns == before

    def test_another_s_student_is_not_replaced(
        self, made: Path, root: Path, tmp_path: Path
    ) -> None:
        """It isn't what this run has made."""
        (tmp_path / "model.safetensors").write_bytes(b"another's")
        with pytest.raises(ConfigError, match="is there already"):
            lesson.distil(CONFIG, root=root, run=made, out=tmp_path)

    def test_a_changed_teacher_is_not_gone_on_with(self, root: Path, tmp_path: Path) -> None:
        """The configuration names it alike."""
        run, here = tmp_path / "run", tmp_path / "root"
        here.mkdir()
        for name in ("speech", "noise"):
            (here / name).symlink_to(root / name)
        shutil.copytree(root / "teacher", here / "teacher")
        sets = lesson._sets(CONFIG, here)
        lesson._claim(CONFIG, sets, here, run)
        lesson._claim(CONFIG, sets, here, run)
        with (here / "teacher" / "config.json").open("a") as file:
            file.write(" ")
        with pytest.raises(ConfigError, match="another configuration"):
            lesson._claim(CONFIG, sets, here, run)

    def test_a_student_goes_on(self, made: Path, root: Path, tmp_path: Path) -> None:
        """From the checkpoint it was left in, with the errors it had."""
        student = str(made / "student")
        settings = SETTINGS.model_copy(update={"student": student, "steps": 1})
        further = CONFIG.model_copy(update={"distil": settings})
        found = lesson.distil(further, root=root, run=tmp_path / "run", out=tmp_path / "out")
        assert found is not None
        before = json.loads((made / "errors.json").read_text())["end"]
        assert found["start"]["stem"] == pytest.approx(before["stem"], rel=0.01)

    def test_no_layer_of_a_student_is_dropped(self, tmp_path: Path) -> None:
        """It would leave a state of the teacher's without its own."""
        given = relative()
        given.config.layerdrop = 0.9
        given.save_pretrained(tmp_path / "student")
        settings = SETTINGS.model_copy(update={"student": "student"})
        student = lesson._student(settings, tmp_path, whisper()).train()
        heard = student(torch.zeros(1, 16_000), output_hidden_states=True)
        assert len(heard.hidden_states) == 3

    def test_another_configuration_is_refused(self, made: Path, root: Path) -> None:
        """A checkpoint of other settings is not gone on from."""
        other = SETTINGS.model_copy(update={"stem_weight": 0.0})
        with pytest.raises(ConfigError, match="another configuration"):
            lesson.distil(
                CONFIG.model_copy(update={"distil": other}), root=root, run=made, out=made / "other"
            )

    def test_nothing_held_out_is_refused(self, root: Path, tmp_path: Path) -> None:
        """Errors on what was heard would flatter."""
        careless = CONFIG.model_copy(update={"data": Data()})
        with pytest.raises(ConfigError, match="development_speakers"):
            lesson.distil(careless, root=root, run=tmp_path / "run", out=tmp_path / "out")


class TestCommand:
    """`python -m training distil`."""

    def test_the_help_teaches(self) -> None:
        """An example, and what comes out."""
        output = CliRunner().invoke(main, ["distil", "--help"]).output
        assert "python -m training distil --data" in output
        assert "--out" in output

    def test_the_recipe_is_read(self) -> None:
        """The configuration that is there states no field that isn't."""
        recipe = read(DistilConfig, "distil")
        assert recipe.distil.teacher == "tiny.en"
        assert recipe.data.development_speakers

    def test_a_wrong_field_is_one_sentence(self, tmp_path: Path) -> None:
        """No traceback."""
        arguments = ["distil", "--data", str(tmp_path), "--set", "distil.stepps=1"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert "distil.stepps" in result.output
