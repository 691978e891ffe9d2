"""What can be found wrong with the settings before a server is started.

The command line asks here before it starts one, and the server again: a refusal in time is one
sentence, where later it would be the end of a long log. Hashing a bundle twice costs a tenth of a
second.
"""

from __future__ import annotations

from service.access import Tokens
from service.bundle import open_bundle
from service.internal import listen
from service.precision import candidates
from service.runtime import cpu_features
from service.settings import Settings, SettingsError, variable


def verify(settings: Settings) -> None:
    """Try all that a server will need, and leave nothing open.

    Raises:
        TimbreError, OSError: settings contradict each other, or the token file, the internal port
            or a bundle can't be used.
    """
    if settings.token_file is not None:
        Tokens(settings.token_file).load()
    if settings.internal_port:
        listen(str(settings.internal_host), settings.internal_port).close()
    if settings.fallback_bundle and settings.fallback_queue_s >= settings.queue_s:
        raise SettingsError(
            f"{variable('fallback_queue_s')}={settings.fallback_queue_s:g} must be below "
            f"{variable('queue_s')}={settings.queue_s:g}: clips are refused before the fallback "
            "would take them."
        )
    if settings.body_timeout_s >= settings.deadline_s:
        raise SettingsError(
            f"{variable('body_timeout_s')}={settings.body_timeout_s:g} must be below "
            f"{variable('deadline_s')}={settings.deadline_s:g}: a clip whose body may come as late "
            "has no time left for its answer."
        )
    for folder in settings.bundles:
        candidates(
            open_bundle(folder),
            settings.precision,
            runtime=settings.runtime,
            features=cpu_features(),
            ungated=settings.ungated,
        )
