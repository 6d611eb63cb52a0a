"""Worker sessions over a Unix socket: for this user alone, and nothing of former lives is left."""

import asyncio
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from radixroute.protos.frames import HELLO
from radixroute.router.errors import JoinRefused
from radixroute.router.links.session_place import session_place
from radixroute.worker.api.frames.frame_socket import MAX_PATH_BYTES, FrameSocket, socket_path
from radixroute.worker.errors import BadSetting
from radixroute.worker.settings import WorkerSettings


@pytest.fixture
def folder(tmp_path):
    """Short enough for a socket, however long the name of a test is."""
    short = Path("/tmp") / f"rr-{os.getpid()}-{tmp_path.name[-12:]}"
    yield short
    for one in short.glob("*"):
        one.unlink()
    with suppress(FileNotFoundError):
        short.rmdir()


def settings(folder, incarnation=1, **changes):
    return WorkerSettings(
        **{"worker_id": "w", "incarnation": incarnation, "session_dir": str(folder), **changes}
    )


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(HELLO)
        transport.close()


async def test_it_is_for_this_user_alone_and_goes_with_its_owner(folder):
    one = FrameSocket(settings(folder), None)
    endpoint = await one.open(Greeter)
    path = socket_path(settings(folder))
    assert endpoint == f"unix://{path}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    reader, writer = await asyncio.open_unix_connection(session_place(endpoint, "127.0.0.1:1").path)
    assert await reader.read() == HELLO
    writer.close()
    one.close()
    one.close()
    assert list(folder.iterdir()) == []


async def test_sockets_of_former_lives_are_cleared_away_and_others_stay(folder):
    folder.mkdir(mode=0o700)
    dead, other, file = folder / "w.1.sock", folder / "x.1.sock", folder / "w.7.sock"
    for path in (dead, other):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    file.write_text("no socket")
    living = FrameSocket(settings(folder, 2), None)
    await living.open(Greeter)
    assert not dead.exists()
    next_life = FrameSocket(settings(folder, 3), None)
    await next_life.open(Greeter)
    assert {one.name for one in folder.iterdir()} == {
        "w.2.sock",  # it lives, perhaps to end what it has
        "w.3.sock",
        "w.7.sock",
        "x.1.sock",
    }
    living.close()
    next_life.close()


async def test_a_folder_that_others_can_enter_is_refused(folder):
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(BadSetting, match="chmod 700"):
        await FrameSocket(settings(folder), None).open(Greeter)


async def test_a_path_too_long_for_a_socket_is_refused_in_words(tmp_path):
    room = MAX_PATH_BYTES - len(str(tmp_path)) - len("/") - len("/w.1.sock")
    fits = FrameSocket(settings(tmp_path / ("x" * room)), None)
    await fits.open(Greeter)
    fits.close()
    with pytest.raises(BadSetting, match=f"108 bytes.* at most {MAX_PATH_BYTES}"):
        await FrameSocket(settings(tmp_path / ("x" * (room + 1))), None).open(Greeter)


def test_a_name_stays_in_its_folder():
    assert socket_path(settings("/s", worker_id="../a b")).parent == Path("/s")


def test_a_file_of_another_machine_is_not_opened():
    """It would be some file of the router's own."""
    assert session_place("unix:///run/x", "[::1]:5").path == "/run/x"
    with pytest.raises(JoinRefused, match=r"worker\.session_dir"):
        session_place("unix:///run/docker.sock", "10.0.0.1:50051")
    assert session_place("tcp://[::]:7", "[fe80::1]:5").host == "fe80::1"
    assert session_place("tcp://0.0.0.0:7", "10.0.0.1:5").host == "10.0.0.1"
    for wrong in ("", "tcp://x", "tcp://:5", "http://a:b"):
        with pytest.raises(JoinRefused, match="session endpoint"):
            session_place(wrong, "10.0.0.1:5")
