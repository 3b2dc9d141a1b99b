"""The cluster file of the tests is the one that users have, but for what they choose as well."""

import pytest
import yaml

from tests.cluster.laptop import CHOSEN, CLUSTER_FILE, ROOT, overlay
from tuners.cluster_file import unchosen_values

TEXT = (ROOT / CLUSTER_FILE).read_text()


def test_only_lines_that_users_choose_differ():
    before, after = TEXT.splitlines(), overlay(TEXT).splitlines()
    assert len(before) == len(after)
    changed = [b.split(":")[0].strip() for b, a in zip(before, after, strict=True) if b != a]
    assert changed == list(CHOSEN)
    assert set(changed) <= set(yaml.safe_load(TEXT)["metadata"])


def test_no_value_is_left_an_example(tmp_path):
    path = tmp_path / CLUSTER_FILE
    path.write_text(overlay(TEXT))
    assert unchosen_values(path) == []


def test_a_value_that_is_not_in_the_file_is_noticed():
    with pytest.raises(AssertionError, match="choose head"):
        overlay(TEXT.replace("&head", "&chief"))
