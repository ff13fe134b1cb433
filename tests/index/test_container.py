"""The file: readable by any safetensors reader, aligned, replaced whole, and never trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

import tessella as ts
from tessella.errors import FormatError
from tests.fuzz.mutations import join, repaired, split

N, D = 50, 70
SPECS = ["Flat", "Flat,F16", "Flat,BF16", "Flat,B1", "Flat,U8", "Flat,B1+U8", "Flat,B1+N4"]
SPECS += ["Graph32", "Graph32,B1+U8"]


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, D), dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path, x: np.ndarray) -> Path:
    """A whole file of an index with ids of its own, so that it has several tensors."""
    index = ts.Index("Flat,B1+U8", dim=D, metric="cosine")
    index.add(x, ids=np.arange(N) * 2)
    index.save(tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("spec", SPECS)
def test_what_is_loaded_is_what_was_saved(spec: str, metric: str, mmap: bool, tmp_path: Path, x: np.ndarray) -> None:
    index = ts.Index(spec, dim=D, metric=metric)
    index.add(x, ids=np.arange(N) * 5)
    index.save(tmp_path / "index")
    loaded = ts.Index.load(tmp_path / "index", mmap=mmap)
    assert (loaded.spec, loaded.dim, loaded.metric, len(loaded)) == (index.spec, D, metric, N)
    np.testing.assert_array_equal(loaded.ids, index.ids)
    for before, after in zip(index.search(x, k=7), loaded.search(x, k=7), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_any_number_of_rows(rows: int, tmp_path: Path, x: np.ndarray) -> None:
    index = ts.Index("Flat,B1+U8", dim=D)
    index.train(x)
    index.add(x[:rows])
    index.save(tmp_path / "index")
    for mmap in (False, True):
        loaded = ts.Index.load(tmp_path / "index", mmap=mmap)
        assert len(loaded) == rows
        assert loaded.is_trained
        np.testing.assert_array_equal(loaded.search(x, k=3).ids, index.search(x, k=3).ids)


def test_a_mapped_index_is_changed_in_memory_only(path: Path, x: np.ndarray) -> None:
    before = path.read_bytes()
    loaded = ts.Index.load(path, mmap=True)
    loaded.remove([0, 4])
    loaded.add(x[:3])
    loaded.update([2], x[:1])
    assert len(loaded) == N + 1
    assert path.read_bytes() == before


def test_safetensors_opens_our_files(path: Path) -> None:
    header, data = split(path.read_bytes())
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata()["format"] == "tessella"
        for name in file.keys():  # noqa: SIM118
            start, end = header[name]["data_offsets"]
            assert file.get_tensor(name).tobytes() == data[start:end]


def test_every_tensor_is_aligned_and_checked(path: Path) -> None:
    raw = path.read_bytes()
    header, data = split(raw)
    metadata = header.pop("__metadata__")
    start = len(raw) - len(data)
    named = {name: entry for name, entry in header.items() if not name.startswith("__pad__")}
    assert len(named) >= 3
    assert all((start + entry["data_offsets"][0]) % 64 == 0 for entry in named.values())
    assert set(json.loads(metadata["checksums"])) == set(named)
    assert raw == repaired(raw), "an independent writer makes the same checksums"


# ---- replacing


def test_saving_keeps_the_mode_and_follows_a_link(path: Path, x: np.ndarray) -> None:
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to(path)
    index = ts.Index("Flat", dim=D)
    index.add(x)
    index.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert ts.Index.load(path).spec == "Flat"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(
    failing: str, path: Path, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    index = ts.Index("Flat", dim=D)
    index.add(x)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, fail)
        with pytest.raises(OSError, match="No space"):
            index.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "index"
    with pytest.raises(FileNotFoundError) as caught:
        ts.Index("Flat", dim=D).save(target)
    assert caught.value.filename == str(target)


def test_a_mapped_file_may_be_replaced(path: Path, x: np.ndarray) -> None:
    """The mapping keeps the old file: searches go on as if nothing had happened."""
    mapped = ts.Index.load(path, mmap=True)
    before = mapped.search(x, k=5)
    other = ts.Index("Flat", dim=D)
    other.add(-x)
    other.save(path)
    np.testing.assert_array_equal(mapped.search(x, k=5).ids, before.ids)
    mapped.save(path)
    np.testing.assert_array_equal(ts.Index.load(path).search(x, k=5).ids, before.ids)


# ---- damage


@pytest.mark.parametrize("mmap", [False, True])
def test_no_flipped_bit_goes_unnoticed(mmap: bool, path: Path) -> None:
    """Every byte of the file is covered, but for the blanks behind the header and the padding."""
    raw = path.read_bytes()
    header, data = split(raw)
    start = len(raw) - len(data)
    pads = [header[name]["data_offsets"] for name in header if name.startswith("__pad__")]
    covered = [at for at in range(len(raw)) if not any(a <= at - start < b for a, b in pads)]
    for at in covered[:: len(covered) // 400 + 1]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        with pytest.raises(FormatError, match=f"^load: {path} "):
            ts.Index.load(path, mmap=mmap)


def test_no_truncated_file_loads(path: Path) -> None:
    raw = path.read_bytes()
    for size in [*range(20), *range(20, len(raw), len(raw) // 200)]:
        path.write_bytes(raw[:size])
        for mmap in (False, True):
            with pytest.raises(FormatError, match=f"^load: {path} "):
                ts.Index.load(path, mmap=mmap, verify=False)


def test_big_tensors_of_a_mapped_file_are_checked_on_demand(tmp_path: Path) -> None:
    index = ts.Index("Flat", dim=64, metric="ip")
    index.add(np.ones((8192, 64), np.float32))  # 2 MB
    path = tmp_path / "index"
    index.save(path)
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    assert len(ts.Index.load(path, mmap=True)) == 8192
    for options in ({"mmap": True, "verify": True}, {"mmap": False}):
        with pytest.raises(FormatError, match="checksum of tensor"):
            ts.Index.load(path, **options)


def tensor(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["centre"].update(changes)

    return change


def metadata(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["__metadata__"].update(changes)

    return change


def config(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        table = header["__metadata__"]
        table["config"] = json.dumps(json.loads(table["config"]) | changes)

    return change


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "unknown dtype": (tensor(dtype="Q5"), "unknown dtype 'Q5'"),
    "dtype of another type": (tensor(dtype=[[[[[]]]]]), "unknown dtype"),
    "other dtype": (tensor(dtype="I32"), "expected tensor 'centre' to be F32"),
    "negative size": (tensor(shape=[-70]), r"shape \[-70\]"),
    "boolean size": (tensor(shape=[True]), "shape"),
    "fractional size": (tensor(shape=[70.0]), "shape"),
    "overflowing sizes": (tensor(shape=[2**40, 2**40, 0]), "shape"),
    "too many dimensions": (tensor(shape=[1] * 60), "shape"),
    "shape that does not fill": (tensor(shape=[71]), "cannot fill"),
    "no shape": (without("centre", "shape"), "lacks one of"),
    "further field": (tensor(more=1), "lacks one of"),
    "one offset": (tensor(data_offsets=[0]), "data_offsets"),
    "backward offsets": (tensor(data_offsets=[280, 0]), "data_offsets"),
    "offsets far outside": (tensor(shape=[2**50], data_offsets=[0, 2**52]), "starts at|truncated"),
    "overlap": (tensor(data_offsets=[64, 344]), "starts at"),
    "missing tensor": (without("centre"), "starts at|checksums"),
    "foreign format": (metadata(format="pt"), "not one of tessella"),
    "newer version": (metadata(version="2"), "version 2 and needs a newer tessella"),
    "nonsense version": (metadata(version="1.5"), "format version '1.5'"),
    "huge version": (metadata(version="9" * 5000), "format version"),
    "other kind": (metadata(kind="rabitq"), "kind 'rabitq'; expected 'index'"),
    "number in the metadata": (metadata(kind=1), "names to strings"),
    "no checksums": (without("__metadata__", "checksums"), "table of checksums"),
    "checksum missing": (metadata(checksums="{}"), "do not belong"),
    "config is no JSON": (metadata(config="{"), "config is not valid JSON"),
    "config is a list": (metadata(config="[]"), "config to be a JSON object"),
    "config with a key twice": (metadata(config='{"dim":70,"dim":70}'), "a key is repeated"),
    "config with NaN": (metadata(config='{"dim":NaN}'), "NaN is not JSON"),
    "config too deep": (metadata(config="[" * 200_000), "not valid JSON"),
    "config empty": (metadata(config="{}"), "config"),
    "unknown spec": (config(spec="Flat,Q9"), ""),
    "spec of another type": (config(spec=5), ""),
    "other spec": (config(spec="Flat,F16"), ""),
    "unknown metric": (config(metric="manhattan"), ""),
    "dim 0": (config(dim=0), ""),
    "dim negative": (config(dim=-70), ""),
    "dim as text": (config(dim="70"), ""),
    "dim huge": (config(dim=2**61), ""),
    "other dim": (config(dim=64), "centre"),
    "rows huge": (config(rows=2**60), ""),
    "fewer rows": (config(rows=3), ""),
    "more rows": (config(rows=N + 64), ""),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_header_is_not_trusted(name: str, mmap: bool, path: Path) -> None:
    change, message = DAMAGE[name]
    header, data = split(path.read_bytes())
    change(header)
    path.write_bytes(join(header, data))
    for verify in (None, False):
        with pytest.raises(FormatError, match=f"^load: {path}[ :].*{message}"):
            ts.Index.load(path, mmap=mmap, verify=verify)


NO_HEADERS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x10\0\0",
    "huge length": (2**63).to_bytes(8, "little") + b"{}",
    "length beyond the file": (100).to_bytes(8, "little") + b"{}",
    "no length": b"\0" * 16,
    "not UTF-8": (8).to_bytes(8, "little") + b'{"\xff\xfe":1}'[:8],
    "not JSON": (8).to_bytes(8, "little") + b"not json",
    "no object": (8).to_bytes(8, "little") + b"[1,2,3] ",
    "too deep": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "deep objects": (500_000).to_bytes(8, "little") + b'{"a":' * 100_000,
    "many digits": (9_000).to_bytes(8, "little") + b'{"a":' + b"9" * 8_994 + b"}",
    "empty object": (8).to_bytes(8, "little") + b"{}      ",
    "numpy file": b"\x93NUMPY\x01\x00v\x00" + b" " * 200,
}


@pytest.mark.parametrize("name", NO_HEADERS)
def test_what_is_no_header_is_a_format_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(NO_HEADERS[name])
    with pytest.raises(FormatError, match=f"^load: {path} is "):
        ts.Index.load(path)


def test_tensors_must_be_aligned(path: Path) -> None:
    """A safetensors file with the same tensors, made by another writer, is refused and not misread."""
    header, data = split(path.read_bytes())
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text) + 8) % 64)  # valid for safetensors: a multiple of 8, not of 64
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(FormatError, match="not aligned to 64 bytes"):
        ts.Index.load(path, verify=False)


def test_what_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ts.Index.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        ts.Index.load(tmp_path)
