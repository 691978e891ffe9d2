"""Host names → addresses, in threads that nothing waits for.

The event loop's own lookups share a few threads with all else that blocks, and the loop's end waits
for them: a name server that doesn't answer takes the better part of a minute for each name.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress


async def addresses(host: str) -> Sequence[str]:
    """Give the IP addresses of a host, at least one, in the order in which to try them.

    Cancelling returns at once; the thread ends by itself.

    Raises:
        OSError: it has none, or nobody tells.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def tell(said: Sequence[str] | OSError) -> None:
        if found.done():
            return
        if isinstance(said, OSError):
            found.set_exception(said)
        else:
            found.set_result(said)

    def look_up() -> None:
        said: Sequence[str] | OSError
        try:
            told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            said = [str(where[0]) for *_, where in told]
        except OSError as error:
            said = error
        except UnicodeError as error:  # what can be no name
            said = OSError(str(error))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, said)

    threading.Thread(target=look_up, name="lookup", daemon=True).start()
    return await found
