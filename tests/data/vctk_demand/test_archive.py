"""Archives that strangers packed, as they are unpacked; test_download.py has those that come by way of a server."""

from __future__ import annotations

import zipfile

import pytest
from loopback import tree, zipped

from denoiser.data.vctk_demand.archive import unpack
from denoiser.errors import DownloadError


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"x" * 300 + ".wav": b"x"}, "no name for a file everywhere"),
        ({"日" * 90 + ".wav": b"x"}, "no name for a file everywhere"),  # 274 bytes of 94 characters
        ({entry("a.wav", 0o120777): b"/etc/passwd"}, "is a link or a device"),
        ({entry("deep", 0o120777): b"/tmp", "deep/a.wav": b"x"}, "is a link or a device"),
        ({entry("a.wav", 0o060644): b""}, "is a link or a device"),
        ({f"{i}.wav": bytes(1 << 20) for i in range(40)}, "would unpack to 41943040 bytes"),
        ({"..\\a.wav": b"x"}, "points out of the folder"),
        ({"a.wav:stream": b"x", "b.wav": b"x"}, "points out of the folder"),
    ],
)
def test_what_does_harm_is_refused_before_anything_is_written(tmp_path, entries, message):
    (tmp_path / "a.zip").write_bytes(zipped(entries))
    with pytest.raises(DownloadError, match=message) as error:
        unpack(tmp_path / "a.zip", tmp_path / "deep", ".wav", 1 << 25)
    assert str(error.value).isprintable()
    assert set(tree(tmp_path)) == {"a.zip"}


def test_a_damaged_name_is_one_line_of_bounded_length(tmp_path):
    content = zipped({"a" * 200 + ".wav": b"x"})
    place = content.index(b"a" * 200)
    (tmp_path / "a.zip").write_bytes(content[:place] + b"\xee\n\x1b" * 66 + content[place + 198 :])
    with pytest.raises(DownloadError) as error:
        unpack(tmp_path / "a.zip", tmp_path / "out", ".wav", 1 << 20)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 2000
