"""Names become addresses in threads of their own, which nobody has to wait for."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from service.lookup import addresses


def test_a_name_s_addresses_are_found() -> None:
    """Numbers stand for themselves."""
    assert set(asyncio.run(addresses("localhost"))) <= {"127.0.0.1", "::1"}
    assert asyncio.run(addresses("10.1.2.3")) == ["10.1.2.3"]
    assert asyncio.run(addresses("fd00::1")) == ["fd00::1"]


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64, "a..b"])
def test_a_name_that_has_none_is_an_error(host: str) -> None:
    """One kind of error, whatever is wrong with it."""
    with pytest.raises(OSError, match=r"."):
        asyncio.run(addresses(host))


def test_a_name_server_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a time-out nor the loop's end waits for it, and its late word is nobody's."""
    answer = threading.Event()
    threads: list[threading.Thread] = []

    def hang(*_: object, **__: object) -> list[object]:
        threads.append(threading.current_thread())
        answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def look_up() -> None:
        async with asyncio.timeout(0.01):
            await addresses("slow")

    with pytest.raises(TimeoutError):
        asyncio.run(look_up())
    (thread,) = threads
    assert thread.daemon
    answer.set()
    thread.join()
