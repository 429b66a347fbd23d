import os

import pytest

from denoiser.data.metadata import gather, read_logs

NAMES = ["p232_001", "p232_002", "p257_001", "p257_002"]


@pytest.mark.parametrize("place", [".", "logfiles"])
def test_noise_type_and_snr_come_from_the_log_files(tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "log_testset.txt").write_text("p232_001 bus 17.5\np257_001 living 2.5\n")
    (tmp_path / place / "log_trainset_28spk.txt").write_text("p226_001 babble 0\n")
    (tmp_path / place / "log_readme.txt").write_text("p226_002 babble 0\n")
    logs = read_logs(tmp_path, tmp_path)
    assert logs == {"p232_001": ("bus", 17.5), "p257_001": ("living", 2.5), "p226_001": ("babble", 0.0)}
    found = gather(NAMES, logs)
    assert found["p232_001"] == {"noise_type": "bus", "snr_db": 17.5, "speaker": "p232"}
    assert found["p232_002"] == {"speaker": "p232"}
    assert gather(["test/p232_001"], logs)["test/p232_001"] == {"noise_type": "bus", "snr_db": 17.5}


def test_other_lines_and_what_cannot_be_read_are_ignored(tmp_path):
    good = ["p1 bus 5", "", "p7\tcafe\t-2.5\r"]
    bad = ["p2 bus", "p3 bus loud", "p4 a b 5", "p8 bus 5 or so", "p5 bus nan", "# p6", "\0"]
    (tmp_path / "log_testset.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(good + bad).encode() + b"\n\xff\xfe")
    (tmp_path / "log_trainset_28spk.txt").mkdir()
    (tmp_path / "log_t1set.txt").symlink_to("log_t1set.txt")
    (tmp_path / "log_t2set.txt").symlink_to("/dev/zero")  # without an end
    os.mkfifo(tmp_path / "log_t3set.txt")  # would wait for a writer
    with open(tmp_path / "log_t4set.txt", "wb") as large:
        large.truncate(1 << 40)
    assert read_logs(tmp_path, tmp_path / "nowhere") == {"p1": ("bus", 5.0), "p7": ("cafe", -2.5)}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (NAMES, True),
        (["1089-134686-0000", "1089-134686-0001", "1188-133604-0000", "1188-133604-0001"], True),
        (NAMES[:2], False),  # one speaker
        (["p1_1", "p2_1", "p3_1"], False),  # a file each
        ([f"p{s}_{i}" for s in range(21) for i in range(2)], False),  # too many to look at
        (["001", "002", "003", "004"], False),
        ([*NAMES, "applause"], False),
    ],
)
def test_speakers_are_told_by_names_that_look_like_it(names, told):
    assert all(("speaker" in facts) == told for facts in gather(names, {}).values())
