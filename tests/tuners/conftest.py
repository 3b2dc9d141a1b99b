"""What the tests of the tuners share: compiled programs go to a folder of the test session."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from, or left in, the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPESWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
