"""Details of the published layouts: labels, slices, and object ids that pictures and recordings share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import (
    CEP_ROWS,
    caltech101,
    cep_dvs,
    cep_pictures,
    cifar10_dvs,
    dvs128_gesture,
    n_omniglot,
    ncaltech101,
    omniglot,
    touch,
)
from scipy.io import savemat

from evlift.datasets import IMAGES, RECORDINGS, check_disjoint
from evlift.errors import DataError
from evlift.events import read_events


def test_caltech_pictures_and_recordings_share_objects(tmp_path: Path) -> None:
    caltech101(tmp_path)
    ncaltech101(tmp_path)
    pictures, recordings = IMAGES["caltech101"](tmp_path), RECORDINGS["ncaltech101"](tmp_path)
    assert recordings.classes == pictures.classes == ("Faces_easy", "airplanes")
    assert recordings.object_ids == pictures.object_ids
    assert recordings.load(0).sensor_size == (180, 240)
    with pytest.raises(DataError, match="Faces_easy/image_0001"):
        check_disjoint(source=pictures, test=recordings.subset([0]))


def test_cep_dvs_labels_come_from_its_table(tmp_path: Path) -> None:
    cep_dvs(tmp_path)
    cep_pictures(tmp_path)
    pictures, recordings = IMAGES["cep-dvs"](tmp_path), RECORDINGS["cep-dvs"](tmp_path)
    assert len(recordings.classes) == 20
    assert [recordings.classes[item.target] for item in recordings] == list(CEP_ROWS)
    assert recordings.object_ids == pictures.object_ids
    assert recordings.targets.tolist() == pictures.targets.tolist()


def test_cep_dvs_refuses_files_and_rows_that_it_does_not_know(tmp_path: Path) -> None:
    cep_dvs(tmp_path)
    touch(tmp_path / "cep-dvs/data/MAT/img/6.mat")
    with pytest.raises(DataError, match=r"6\.mat.*0 to 5"):
        RECORDINGS["cep-dvs"](tmp_path)
    table = tmp_path / "cep-dvs/pathFile.csv"
    table.write_text(table.read_text() + "\n6 a b c dragons x\n")
    with pytest.raises(DataError, match="dragons"):
        RECORDINGS["cep-dvs"](tmp_path)


def test_omniglot_drawings_share_objects_and_slices_come_from_the_table(tmp_path: Path) -> None:
    n_omniglot(tmp_path)
    omniglot(tmp_path)
    pictures, recordings = IMAGES["omniglot"](tmp_path), RECORDINGS["n-omniglot"](tmp_path)
    assert recordings.classes == pictures.classes
    assert recordings.classes[0] == "Arcadian/character01"
    assert recordings.classes[-1] == "Angelic/character02"  # background set first
    assert len(recordings) == 6 * 20
    assert set(pictures.object_ids) < set(recordings.object_ids)
    by_object = {item.object_id: item for item in recordings}
    for picture in pictures:
        assert by_object[picture.object_id].target == picture.target
    item = by_object["omniglot/Latin/character02/0502_03"]
    assert (item.start_us, item.stop_us) == (2000, 2900)


def test_n_omniglot_reads_the_archives_own_folders(tmp_path: Path) -> None:
    n_omniglot(tmp_path)
    base = tmp_path / "n-omniglot"
    merged = RECORDINGS["n-omniglot"](tmp_path)
    (base / "dvs_background_2").mkdir()
    (base / "dvs_background/Latin").rename(base / "dvs_background_2/Latin")
    (base / "dvs_background").rename(base / "dvs_background_1")
    apart = RECORDINGS["n-omniglot"](tmp_path)
    assert apart.classes == merged.classes
    assert [(a.name, a.target) for a in apart] == [(m.name, m.target) for m in merged]


def test_n_omniglot_misses_what_is_not_there(tmp_path: Path) -> None:
    n_omniglot(tmp_path)
    table = tmp_path / "n-omniglot/dvs_background/Latin/character01/0501.csv"
    table.write_text("a,b,c\n1,2\n")
    with pytest.raises(DataError, match="3 integers"):
        RECORDINGS["n-omniglot"](tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"0501\.csv.*figshare"):
        RECORDINGS["n-omniglot"](tmp_path)


def test_gestures_are_slices_by_person_and_published_split(tmp_path: Path) -> None:
    dvs128_gesture(tmp_path)
    train = RECORDINGS["dvs128-gesture"](tmp_path)
    test = RECORDINGS["dvs128-gesture"](tmp_path, "test")
    check_disjoint(train=train, test=test)
    assert [(item.name, item.target) for item in train[:2]] == [("user01_led/00", 0), ("user01_led/01", 10)]
    assert set(train.object_ids) == {"dvs128-gesture/user01"}
    assert (test[1].start_us, test[1].stop_us) == (2000, 4000)
    with pytest.raises(DataError, match="'train' or 'test'"):
        RECORDINGS["dvs128-gesture"](tmp_path, "val")


def test_gesture_files_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    dvs128_gesture(tmp_path)
    table = tmp_path / "dvs128-gesture/DvsGesture/user24_led_labels.csv"
    table.write_text("class,start,end\n12,0,5\n")
    with pytest.raises(DataError, match="but got 12"):
        RECORDINGS["dvs128-gesture"](tmp_path, "test")
    table.unlink()
    with pytest.raises(DataError, match="user24_led_labels"):
        RECORDINGS["dvs128-gesture"](tmp_path, "test")


def test_cifar10_dvs_needs_all_ten_classes(tmp_path: Path) -> None:
    cifar10_dvs(tmp_path)
    recordings = RECORDINGS["cifar10-dvs"](tmp_path)
    assert len(recordings) == 30
    for file in (tmp_path / "cifar10-dvs/frog").iterdir():
        file.unlink()
    (tmp_path / "cifar10-dvs/frog").rmdir()
    with pytest.raises(DataError, match="cifar10-dvs/frog"):
        RECORDINGS["cifar10-dvs"](tmp_path)


def test_gestures_are_read_from_their_slice(tmp_path: Path) -> None:
    dvs128_gesture(tmp_path)
    gestures = RECORDINGS["dvs128-gesture"](tmp_path)
    assert gestures.load(0).t.tolist() == list(range(0, 1000, 10))
    assert gestures.load(1).t.tolist() == list(range(2000, 4000, 10))
    assert gestures.load(0).sensor_size == (128, 128)


@pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")  # the sensor's size is not in the file
def test_cep_dvs_reads_vectors_with_signed_polarity(tmp_path: Path) -> None:
    cep_dvs(tmp_path)
    columns = {"x": [3, 0, 9], "y": [1, 2, 0], "ts": [5, 70, 900], "p": [1, -1, 1]}
    file = tmp_path / "cep-dvs/data/MAT/img/0.mat"
    savemat(file, {name: np.array(values)[:, None] for name, values in columns.items()})
    stream = RECORDINGS["cep-dvs"](tmp_path).load(0)
    assert (stream.t.tolist(), stream.x.tolist(), stream.y.tolist()) == ([5, 70, 900], [3, 0, 9], [1, 2, 0])
    assert stream.p.tolist() == [True, False, True]


def test_real_files_in_their_published_places(data_root: Path, tmp_path: Path) -> None:
    recordings = data_root / "recordings"
    pair = recordings / "ncaltech101_pair/ncaltech101_faces_easy_image_0001.bin"
    touch(tmp_path / "ncaltech101/Caltech101/Faces_easy/image_0001.bin", pair.read_bytes())
    assert len(RECORDINGS["ncaltech101"](tmp_path).load(0)) == 67_445
    cifar10_dvs(tmp_path)
    poker = (recordings / "aedat2_dvs128_poker.aedat").read_bytes()
    (tmp_path / "cifar10-dvs/airplane/cifar10_airplane_0.aedat").write_bytes(poker)
    stream = RECORDINGS["cifar10-dvs"](tmp_path).load(0)
    assert stream.sensor_size == (128, 128)
    assert len(stream) > 0


def test_a_real_aedat4_file_is_sliced_in_its_own_time(data_root: Path, tmp_path: Path) -> None:
    n_omniglot(tmp_path)
    folder = tmp_path / "n-omniglot/dvs_background/Arcadian/character01"
    file = next(folder.glob("*.aedat4"))
    file.write_bytes((data_root / "recordings/aedat4_davis346_traffic.aedat4").read_bytes())
    whole = read_events(file)
    start, stop = int(whole.t[1000]), int(whole.t[3000])
    file.with_suffix(".csv").write_text(f",start,end\n0,{start},{stop}\n")
    recordings = RECORDINGS["n-omniglot"](tmp_path)
    position = [item.path for item in recordings].index(file)
    assert recordings.load(position) == whole.between(start, stop)
    assert start > 10**15  # the camera's clock, as in the csv files: nothing was shifted to zero
