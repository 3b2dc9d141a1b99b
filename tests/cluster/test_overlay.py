"""The cluster files of the tests are those that users have, but for what they choose as well."""

import pytest
import yaml

from tests.cluster.overlay import AWS, ONPREM, ROOT, Overlay
from tuners.cluster.cluster_file import unchosen_values

OVERLAYS = pytest.mark.parametrize("overlay", [ONPREM, AWS], ids=lambda overlay: overlay.file)


def text_of(overlay: Overlay) -> str:
    return (ROOT / overlay.file).read_text()


@OVERLAYS
def test_only_lines_that_users_choose_differ_and_those_that_are_listed(overlay: Overlay):
    text = text_of(overlay)
    before, after = text.splitlines(), overlay.apply(text).splitlines()
    assert len(before) == len(after)
    changed = {b.split(":")[0].strip() for b, a in zip(before, after, strict=True) if b != a}
    assert changed == {*overlay.chosen, *overlay.altered}
    assert set(overlay.chosen) <= set(yaml.safe_load(text)["metadata"])


def test_beside_what_users_choose_only_the_idle_time_of_workers_differs():
    assert dict(ONPREM.altered) == {}
    assert set(AWS.altered) == {"idle_timeout_minutes"}


@OVERLAYS
def test_no_value_is_left_an_example(overlay: Overlay, tmp_path):
    path = tmp_path / overlay.file
    path.write_text(overlay.apply(text_of(overlay)))
    assert unchosen_values(path) == []


def test_a_value_that_is_not_in_the_file_is_noticed():
    with pytest.raises(AssertionError, match="&head"):
        ONPREM.apply(text_of(ONPREM).replace("&head", "&chief"))
