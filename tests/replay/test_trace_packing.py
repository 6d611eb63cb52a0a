"""What a trace file may be packed in: read whatever its name, or said what it is."""

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.files import read_trace
from tests.replay.traces import assert_sound

DATA = Path(__file__).resolve().parents[1] / "data"
TRACES = DATA / "traces"
TEXT = b"".join((DATA / "mooncake-conversation-200.jsonl").read_bytes().splitlines(True)[:30])


def zipped(files, method=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.mkdir("folder")
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def tarred(files, mode="w"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def two_frames(data):
    compress = zstandard.ZstdCompressor().compress
    return compress(data[:1000]) + compress(data[1000:])


def as_array(data):
    return json.dumps([json.loads(line) for line in data.splitlines()], indent=1).encode()


ONE = {"folder/t.jsonl": TEXT}
HIDDEN = {"__MACOSX/._t.jsonl": b"x", "folder/.DS_Store": b"x", **ONE}
PACKED = {
    "plain": TEXT,
    "gzip": gzip.compress(TEXT),
    "gzip of two members": gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "zstd": zstandard.ZstdCompressor().compress(TEXT),
    "zstd of two frames": two_frames(TEXT),
    "zip": zipped(ONE),
    "zip, stored": zipped(ONE, zipfile.ZIP_STORED),
    "zip with a packer's own files": zipped(HIDDEN),
    "tar": tarred(ONE),
    "tar.gz": tarred(ONE, "w:gz"),
    "tar.xz with a packer's own files": tarred(HIDDEN, "w:xz"),
    "tar.zst": zstandard.ZstdCompressor().compress(tarred(ONE)),
    "zip in gzip": gzip.compress(zipped(ONE)),
    "zip in tar": tarred({"t.zip": zipped(ONE)}),
    "gzip in zip": zipped({"t.jsonl.gz": gzip.compress(TEXT)}),
    "mark of UTF-8": b"\xef\xbb\xbf" + TEXT,
    "mark of UTF-8 in gzip": gzip.compress(b"\xef\xbb\xbf" + TEXT),
    "UTF-16": TEXT.decode().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + TEXT.decode().encode("utf-16-be"),
    "lines of Windows": TEXT.replace(b"\n", b"\r\n"),
    "a JSON array": as_array(TEXT),
    "a JSON array in zstd": zstandard.ZstdCompressor().compress(b"\xef\xbb\xbf" + as_array(TEXT)),
}


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Files in a folder of their own, named as they are given."""
    monkeypatch.chdir(tmp_path)

    def putting(data, name="x"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes(data)
        return Path(name)

    return putting


@pytest.mark.parametrize("kind", PACKED)
def test_a_trace_is_read_however_it_is_packed(put, kind):
    trace = read_trace(put(PACKED[kind])).trace
    assert_sound(trace)
    assert trace.digest == read_trace(put(TEXT, "plain")).trace.digest
    assert len(trace) == 30


SAMPLES = ("m.jsonl.bz2", "m.jsonl.xz", "m.jsonl.zip", "m.jsonl.zst", "m.tar.gz", "bom.jsonl")


@pytest.mark.parametrize("name", SAMPLES)
def test_files_that_others_packed_are_read(name):
    trace = read_trace(TRACES / name).trace
    assert_sound(trace)
    assert trace.name in ("m", "bom")
    # The archives hold the lines of the file with the mark, or the first of them.
    whole = read_trace(TRACES / "bom.jsonl").trace
    assert trace.input_tokens.tolist() == whole.input_tokens.tolist()[: len(trace)]


def test_a_pipe_is_read(put):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(gzip.compress(TEXT)))
    writer.start()
    trace = read_trace(Path("pipe")).trace
    writer.join()
    assert len(trace) == 30


DAMAGED = {
    "a torn gzip": (PACKED["gzip"][:-20], "its compression .gzip. is damaged"),
    "a torn bzip2": (PACKED["bzip2"][:-20], "its compression .bzip2. is damaged"),
    "a torn xz": (PACKED["xz"][:-20], "its compression .xz. is damaged"),
    "a torn zstd": (PACKED["zstd"][:-20], "its compression .zstd. is damaged"),
    "a torn second frame": (PACKED["zstd of two frames"][:-20], "zstd. is damaged"),
    "a torn zip": (PACKED["zip"][:-20], "its zip is damaged"),
    "a torn tar": (PACKED["tar"][:3000], "its tar is damaged"),
    "a torn tar.gz": (PACKED["tar.gz"][:-200], "damaged"),
    "no bzip2": (b"BZhello there", "its compression .bzip2. is damaged"),
    "no zstd": (b"\x28\xb5\x2f\xfdhello there", "its compression .zstd. is damaged"),
    "a torn JSON array": (PACKED["a JSON array"][:-9], "it begins as a JSON array and is none"),
    "torn UTF-16": (PACKED["UTF-16"][:-1], "UTF-16 and is none"),
    "no UTF-16": (b"\xff\xfe\n", "UTF-16 and is none"),
    "torn Parquet": (b"PAR1" + b"\0" * 40 + b"PAR1", "its Parquet cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_never_read_as_a_shorter_one(put, kind):
    data, reason = DAMAGED[kind]
    with pytest.raises(BadTrace, match=f"^x: .*{reason}"):
        read_trace(put(data))


REFUSED = {
    "an archive of two": (zipped({"a.jsonl": TEXT, "b.jsonl": TEXT}), "2 files .a.jsonl, b.jsonl."),
    "a tar of seven": (tarred({f"{n}.csv": TEXT for n in range(7)}), r"4.csv and 2 more\): unpack"),
    "an empty zip": (zipped({}), "an archive without a file in it"),
    "an empty tar": (tarred({".hidden": TEXT}), "an archive without a file in it"),
    "a Git LFS pointer": ((TRACES / "BurstGPT_1_lfs.csv").read_bytes(), "of 52,283,111 bytes: run"),
    "another": ((TRACES / "qwen_coder_blksz_16.jsonl").read_bytes(), "Git LFS pointer, not the"),
    "a pointer in a zip": (
        zipped({"t": (TRACES / "BurstGPT_1_lfs.csv").read_bytes()}),
        "git lfs pull",
    ),
    "a git-annex pointer": (b"/annex/objects/SHA256E-s5--a.csv\n", "git annex get"),
    "a web page": (b"\n<!DOCTYPE html>\n<html>", "a web page: download the file itself"),
    "a 7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive: unpack it"),
    "an Arrow file": (b"ARROW1\0\0", "an Arrow file: write it as Parquet"),
    "SQLite": (b"SQLite format 3\x00", "an SQLite database: export"),
    "many layers": (b"", "packed more than 5 times"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_trace_is_said_by_what_it_is(put, kind):
    data, reason = REFUSED[kind]
    if kind == "many layers":
        data = TEXT
        for _ in range(6):
            data = gzip.compress(data)
    with pytest.raises(BadTrace, match=f"^x: it is .*{reason}"):
        read_trace(put(data))


def test_an_encrypted_zip_is_said(put):
    data = bytearray(zipped(ONE))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for at in [i for i in range(len(data)) if data[i : i + 4] == mark]:
            data[at + flags] |= 1
    with pytest.raises(BadTrace, match=r"^x: it is an encrypted zip: unpack it"):
        read_trace(put(bytes(data)))


@pytest.mark.parametrize(
    ("module", "data", "extra"),
    [
        ("zstandard", PACKED["zstd"], r"radixroute\[zstd\]"),
        ("pyarrow", b"PAR1" + TEXT, r"radixroute\[parquet\]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(put, monkeypatch, module, data, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadTrace, match=f"^x: it is .*pip install .{extra}'"):
        read_trace(put(data))


@pytest.mark.parametrize("name", ["gone", "no/where.jsonl.gz"])
def test_a_missing_file_is_named_as_it_was_given(put, name):
    with pytest.raises(BadTrace, match=f"^{name}: cannot be read: No such file"):
        read_trace(Path(name))
    with pytest.raises(BadTrace, match=r"^folder: is a directory: name a file"):
        read_trace(put(b"", "folder/x").parent)
    with pytest.raises(BadTrace, match=r"^folder/x: the file is empty"):
        read_trace(Path("folder/x"))


def parquet(columns):
    packed = io.BytesIO()
    pq.write_table(pa.table(columns), packed)
    return packed.getvalue()


MOONCAKE = {
    "timestamp": [0, 2000],
    "input_length": [600, 700],
    "output_length": [5, 6],
    "hash_ids": [[1, 2], [1, 3]],
}
STAMPS = np.array(["2023-11-16T18:15:46.680590000", "2023-11-16T18:15:48"], "datetime64[ns]")
AZURE = {
    "TIMESTAMP": STAMPS,
    "ContextTokens": [374, 396],
    "GeneratedTokens": [44, 109],
    "x": ["a,b", ""],
}


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda data: tarred({"t": data})])
@pytest.mark.parametrize(("columns", "form"), [(MOONCAKE, "mooncake"), (AZURE, "azure")])
def test_parquet_is_read_as_the_format_of_its_columns(put, columns, form, wrap):
    reading = read_trace(put(wrap(parquet(columns)), "t.parquet"))
    assert (reading.format, reading.trace.name, len(reading.trace)) == (form, "t", 2)
    assert_sound(reading.trace)
    wanted = {"mooncake": 2_000_000_000, "azure": 1_319_410_000}
    assert reading.trace.arrival_ns.tolist() == [0, wanted[form]]


def test_a_bad_row_of_parquet_and_a_bad_item_are_named_as_such(put):
    rows = {**MOONCAKE, "input_length": [600, 0]}
    with pytest.raises(BadTrace, match=r"^x, row 2: a prompt must have .*this one has none"):
        read_trace(put(parquet(rows)))
    items = b'[{"timestamp": 0, "input_length": 1, "output_length": 1},\n 5]'
    with pytest.raises(BadTrace, match=r"^x, item 2: Expected"):
        read_trace(put(items))
    with pytest.raises(BadTrace, match=r"^x, row 1: it fits no format"):
        read_trace(put(parquet({"a": [1]})))
    with pytest.raises(BadTrace, match=r"^x: the file is empty"):
        read_trace(put(parquet({"timestamp": [], "input_length": []})))


def test_any_bytes_in_any_packing_are_read_or_refused(put):
    """Seeded: what is damaged is read whole, or refused by name, and nothing else is raised."""
    rng = np.random.default_rng(7)
    kinds = [*PACKED.values(), parquet(MOONCAKE)]
    refused = []
    for number in range(300):
        data = bytearray(kinds[number % len(kinds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(min(len(data), 600)))] = int(rng.integers(256))
        try:
            assert_sound(read_trace(put(bytes(data))).trace)
        except BadTrace as bad:
            refused.append(str(bad))
    assert len(refused) > 100
    assert all(reason.startswith("x") for reason in refused)
