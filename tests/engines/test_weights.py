"""The fingerprint of an engine's model: other weights share no block, and ours has the same."""

import json

import pytest

from radixroute.worker.companions.join.weights import weights_fingerprint
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import beside


def _tensor(at):
    return {"dtype": "U8", "shape": [4096], "data_offsets": [at, at + 4096]}


def write_model(folder, *, names=("model.safetensors",), change=None):
    """Files of 8 tensors of 4 KiB each. `change`: a byte of the last file that is another."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"vocab_size": 100}')
    for name in names:
        spans = {f"t{n}": _tensor(n * 4096) for n in range(8)}
        header = json.dumps(spans).encode()
        data = bytearray(bytes(range(256)) * 128)
        if change is not None and name == names[-1]:
            data[change] ^= 1
        (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + data)
    if len(names) > 1:
        shards = {"weight_map": {f"{name}.t": name for name in names}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    return folder


SHARDS = ("model-1.safetensors", "model-2.safetensors")


@pytest.mark.parametrize("names", [("model.safetensors",), SHARDS])
@pytest.mark.parametrize(("most", "seen"), [(1 << 30, (0, 2048, 5)), (0, (2048, 6144 + 100))])
def test_other_weights_have_another_fingerprint(tmp_path, names, most, seen):
    one = weights_fingerprint(write_model(tmp_path / "a", names=names), most)
    assert one == weights_fingerprint(write_model(tmp_path / "b", names=names), most)
    for at in seen:
        other = write_model(tmp_path / "c", names=names, change=at)
        assert weights_fingerprint(other, most) != one
    (tmp_path / "b" / "config.json").write_text('{"vocab_size": 101}')
    assert weights_fingerprint(tmp_path / "b", most) != one


def test_pieces_are_never_taken_for_the_whole_and_what_is_torn_has_none(tmp_path):
    folder = write_model(tmp_path / "a", names=SHARDS)
    assert weights_fingerprint(folder) != weights_fingerprint(folder, 0)
    (folder / SHARDS[1]).unlink()
    assert weights_fingerprint(folder) is None
    assert weights_fingerprint(tmp_path / "nowhere") is None
    for garbage in (b"", b"x", b"\xff" * 4096):
        (folder / SHARDS[1]).write_bytes(garbage)
        assert weights_fingerprint(folder, 0)


def test_an_engine_of_ours_has_the_same_one(tmp_path):
    from radixroute.worker.model.weights import fingerprint

    folder = write_model(tmp_path / "a", names=SHARDS)
    assert weights_fingerprint(folder) == fingerprint(folder)


async def test_engines_of_one_name_with_other_weights_share_no_scope(tmp_path):
    told: list[str] = []
    here = tmp_path / "x"
    here.mkdir()
    first, second = write_model(here / "m"), write_model(tmp_path / "m", change=5)
    for root in (str(first), str(second), "/no/m"):
        engine = FakeVllm(root=root)
        worker = beside(await engine.start(), model=str(first))
        try:
            await worker.start()
            assert worker.info is not None
            told.append(worker.info.model_fingerprint)
        finally:
            await worker.stop()
            await engine.kill()
    assert told[0] != told[1]
    assert told[2] == told[0]  # what it names is not here: that of the settings
