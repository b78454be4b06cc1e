"""Each test starts with empty caches, so that it asks the code itself and not what an earlier test was told."""

from __future__ import annotations

import pytest

from mongoguard.command.requires import privilege_on
from mongoguard.command.sessions import session_uid
from mongoguard.model import resource_pattern


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    privilege_on.cache_clear()
    session_uid.cache_clear()
    resource_pattern._kept_search_list.cache_clear()
