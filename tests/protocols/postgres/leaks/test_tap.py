"""The tap: what a driver receives is kept, whole and in order, and passed on as it is."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastion.demo.cluster import short_directory
from bastion.protocols.postgres.leaks.tap import Tap


@pytest.fixture
def gateway() -> Iterator[tuple[Path, socket.socket]]:
    """A directory with a listening socket `gateway` in it."""
    home = short_directory("bt-tap-")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "gateway"))
        listener.listen()
        yield home, listener
    (home / "gateway").unlink()
    home.rmdir()


def test_answers_are_kept_and_questions_are_not(gateway: tuple[Path, socket.socket]) -> None:
    home, listener = gateway
    with Tap(home, "tap", home / "gateway") as tap, socket.socket(socket.AF_UNIX) as driver:
        driver.connect(str(home / "tap"))
        end, _ = listener.accept()
        with end:
            driver.sendall(b"question")
            assert end.recv(100) == b"question"
            end.sendall(b"answer")
            assert driver.recv(100) == b"answer"
            assert tap.taken() == b"answer"
            assert tap.taken() == b""
        assert driver.recv(100) == b""


def test_large_answers_are_whole(gateway: tuple[Path, socket.socket]) -> None:
    home, listener = gateway
    data = bytes(range(256)) * 4000
    with Tap(home, "tap", home / "gateway") as tap, socket.socket(socket.AF_UNIX) as driver:
        driver.connect(str(home / "tap"))
        end, _ = listener.accept()
        writer = threading.Thread(target=lambda: (end.sendall(data), end.close()))
        writer.start()
        received = b""
        while piece := driver.recv(65536):
            received += piece
        writer.join()
        assert received == tap.taken() == data


def test_leaving_hangs_up(gateway: tuple[Path, socket.socket]) -> None:
    home, listener = gateway
    with socket.socket(socket.AF_UNIX) as driver:
        with Tap(home, "tap", home / "gateway"):
            driver.connect(str(home / "tap"))
            end, _ = listener.accept()
        with end:
            assert driver.recv(100) == b""
            assert end.recv(100) == b""
    assert not (home / "tap").exists()


def test_gateway_that_is_gone_is_a_connection_that_ends(gateway: tuple[Path, socket.socket]) -> None:
    home, _ = gateway
    with Tap(home, "tap", home / "nowhere"), socket.socket(socket.AF_UNIX) as driver:
        driver.connect(str(home / "tap"))
        assert driver.recv(100) == b""
