"""`evlift simulate`: files in, recordings out, whole or not there, and the same ones next time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evlift import cli
from evlift.events import read_events, write_events
from evlift.events.writers import WRITERS
from evlift.simulate import Saccades, simulate_video
from evlift.simulate.camera import EventCamera
from evlift.simulate.command import FileSimulator, read_grey

pytestmark = [
    pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # imageio's pipes to ffmpeg
]
QUICK = {"duration_us": 20_000, "step_us": 2_000, "sensor_size": (24, 30)}
FLAGS = ["--duration-ms", "20", "--step-ms", "2", "--sensor", "24x30"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for place in ("mug/a.png", "mug/b.jpg", "phone/a.png", "phone/.hidden.png"):
        path = tmp_path / "pictures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((5, 5, 1))).astype(np.uint8)).save(
            path
        )
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("format", WRITERS.names())
def test_a_folder_keeps_its_classes_in_every_format(
    pictures: Path, tmp_path: Path, format: str, capsys
) -> None:
    out = tmp_path / "out"
    assert cli.main(["simulate", str(pictures), str(out), "--format", format, *FLAGS]) == 0
    suffix = (*WRITERS[format].extensions, ".raw")[0]  # type: ignore[attr-defined]
    assert set(contents(out)) == {f"mug/a{suffix}", f"mug/b{suffix}", f"phone/a{suffix}"}
    stream = read_events(out / f"mug/a{suffix}")
    assert len(stream) > 100
    assert stream.t[-1] <= 20_000
    said = capsys.readouterr().out
    total = sum(len(read_events(out / name)) for name in contents(out))
    assert f"3 recordings, {total:,} events" in said


def test_the_same_seed_makes_the_same_files_whatever_else_is_there(pictures: Path, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        FileSimulator(**QUICK, seed=seed, format="npz")(pictures, tmp_path / name)
        made[name] = contents(tmp_path / name)
    assert made["one"] == made["two"]
    assert made["one"]["mug/a.npz"] != made["other"]["mug/a.npz"]
    (pictures / "mug/b.jpg").unlink()
    FileSimulator(**QUICK, format="npz")(pictures, tmp_path / "fewer")
    assert contents(tmp_path / "fewer")["phone/a.npz"] == made["one"]["phone/a.npz"]


def test_a_picture_is_what_saccades_make_of_it(pictures: Path, tmp_path: Path) -> None:
    values = {"threshold": 0.3, "noise_hz": 2.0, "leak_hz": None}
    FileSimulator(**QUICK, motion="pan", amplitude_px=3.0, margin=2, camera=values)(
        pictures / "mug/a.png", tmp_path / "a.npz"
    )
    stream = read_events(tmp_path / "a.npz")
    assert stream.sensor_size == (24, 30)
    same = Saccades(
        motion="pan", duration_us=20_000, step_us=2_000, sensor_size=(24, 30), amplitude_px=(3.0, 3.0), margin=2,
        threshold=(0.3, 0.3), noise_hz=(2.0, 2.0), negative=False, rotation_deg=0.0, scale=(1.0, 1.0), shear=0.0,
        black=EventCamera.black, gamma=EventCamera.gamma,
    )  # fmt: skip
    from zlib import crc32

    assert stream == same(read_grey(pictures / "mug/a.png"), np.random.default_rng([0, crc32(b"a.png")]))


def test_a_video_becomes_one_recording(tmp_path: Path, capsys) -> None:
    import imageio.v3 as imageio

    frames = [
        np.roll(np.kron(np.eye(8), np.ones((4, 6))) * 255, 2 * k, axis=1).astype(np.uint8) for k in range(9)
    ]
    imageio.imwrite(tmp_path / "in.mp4", [np.repeat(f[..., None], 3, axis=2) for f in frames], fps=30)
    reports: list[tuple[int, int | None]] = []
    made = FileSimulator(seed=3, camera={"leak_hz": 1.0})(
        tmp_path / "in.mp4", tmp_path / "v.h5", lambda done, total: reports.append((done, total))
    )
    camera = EventCamera(leak_hz=(1.0, 1.0))
    windows = list(simulate_video(tmp_path / "in.mp4", np.random.default_rng(3), camera=camera))
    stream = read_events(tmp_path / "v.h5")
    assert made.events == len(stream) == sum(map(len, windows)) > 500
    np.testing.assert_array_equal(stream.t, np.concatenate([window.t for window in windows]))
    assert reports == [(k, 9) for k in range(1, 10)]
    assert cli.main(["simulate", str(tmp_path / "in.mp4"), str(tmp_path / "w.raw"), "--fps", "300"]) == 0
    assert read_events(tmp_path / "w.raw").t[-1] <= 8 / 300 * 1e6 + 1
    assert "1 recording, " in capsys.readouterr().out
    assert cli.main(["simulate", str(tmp_path / "in.mp4"), str(tmp_path / "x.raw"), "--motion", "pan"]) == 2
    assert "no --motion for a video" in capsys.readouterr().err


def test_fit_gives_the_rates_of_a_recording(pictures: Path, tmp_path: Path, capsys) -> None:
    true = Saccades(sensor_size=(24, 30), negative=False, margin=0, threshold=(0.3, 0.3), noise_hz=(2.0, 2.0))
    for k, path in enumerate(sorted(pictures.glob("*/[ab].*"))):
        write_events(tmp_path / f"real/{k}.npz", true(read_grey(path), np.random.default_rng(k)))
    flags = ["--sensor", "24x30", "--fit", str(tmp_path / "real"), "--format", "npz"]
    assert cli.main(["simulate", str(pictures), str(tmp_path / "out"), *flags]) == 0
    real, made = (
        sum(len(read_events(path)) for path in (tmp_path / name).rglob("*.npz")) for name in ("real", "out")
    )
    assert made == pytest.approx(real, rel=0.15)
    assert "log ON/OFF threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.png", "a.npz"], 1, "there is no 'none.png'"),
        (["pictures/notes.txt", "a.npz"], 1, "notes.txt' to be a picture or a video"),
        (["pictures", "pictures/out"], 2, "outside of 'pictures'"),
        (["empty", "out"], 1, "below 'empty', but found none"),
        (["pictures", "out", "--motion", "pam"], 2, "Did you mean 'pan'"),
        (["pictures", "out", "--format", "evt9"], 2, "Unknown output format 'evt9'"),
        (["pictures/mug/a.png", "a.xyz"], 1, "an extension that names an output format"),
        (["pictures", "out", "--fps", "30"], 2, "no --fps for pictures"),
        (["pictures/mug/a.png", "there.npz"], 1, "nothing at 'there.npz', but it is there already"),
        (["pictures", "full"], 1, "nothing at 'full/mug/a.h5' and 1 more file, but"),
        (["pictures", "out", "--step-ms", "400"], 2, "0 < step <= duration"),
        (["pictures", "out", "--fit", "pictures", "--noise-hz", "1"], 2, "got both for noise_hz"),
        (["pictures", "out", "--fit", "empty"], 1, "recordings below 'empty'"),
        (["twins", "out"], 1, "Rename one"),
        (["cut.png", "a.npz"], 1, "cut.png' to be a picture"),
        (["bad.mp4", "a.npz"], 1, "bad.mp4' to be a video"),
    ],
)
def test_what_cannot_be_done_is_said(
    pictures, tmp_path, monkeypatch, capsys, arguments, code, message
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("twins").mkdir()
    Path("full/mug").mkdir(parents=True)
    for name in ("there.npz", "full/mug/a.h5", "full/mug/b.h5"):
        Path(name).write_text("precious")
    for name in ("a.png", "a.jpg"):
        Path("twins", name).write_bytes((pictures / "mug/a.png").read_bytes())
    Path("cut.png").write_bytes((pictures / "mug/a.png").read_bytes()[:200])
    Path("bad.mp4").write_bytes(b"no video" * 50)
    before = contents(tmp_path)
    assert cli.main(["simulate", *arguments]) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert contents(tmp_path) == before  # nothing half done is left


@pytest.mark.parametrize(
    "flag",
    [["--sensor", "180"], ["--sensor", "0x9"], ["--threshold", "0"], ["--noise-hz", "-1"], ["--seed", "x"]],
)
def test_wrong_values_are_refused_at_once(flag: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["simulate", "a", "b", *flag])
    assert left.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_what_is_there_is_replaced_when_asked(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("old")
    arguments = ["simulate", str(pictures / "mug/a.png"), str(tmp_path / "a.npz"), *FLAGS]
    assert cli.main(arguments) == 1
    assert (tmp_path / "a.npz").read_text() == "old"
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert len(read_events(tmp_path / "a.npz")) > 100


def test_a_folder_takes_the_name_of_its_picture(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    FileSimulator(**QUICK)(pictures / "mug/b.jpg", tmp_path / "here")
    assert list(contents(tmp_path / "here")) == ["b.h5"]


def test_pictures_are_read_upright_and_in_full_depth(tmp_path: Path) -> None:
    values = np.arange(0, 60_000, 5_000, dtype=np.uint16).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "deep.png"), values >> 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_grey(tmp_path / "turned.jpg").shape == (4, 3)
