"""The password of MLflow is in the environment, and in nothing that is written or shown."""

import pytest
import yaml

from tests.tuners.small import refusal, small_spec
from tuners.login import error_line, hide_login, masked, whole_uri, without_login
from tuners.outputs import check_tracking_uri
from tuners.spec import load_spec, prepare

SECRET = "hunter2/planted"
DATABASE = f"postgresql://me:{SECRET}@127.0.0.1:1/mlflow?sslmode=require"
SERVER = "https://me:p%40ss@mlflow.example:5000/team"
VARIABLES = [f"MLFLOW_TRACKING_{part}" for part in ("URI", "USERNAME", "PASSWORD", "TOKEN")]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of MLflow; what a test sets is taken back."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored, whoever sets it
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    "uri",
    [
        *("sqlite:///mlflow.db", "sqlite:////a:b@c/mlflow.db", "http://127.0.0.1:5000"),
        *("postgresql://me@host/mlflow", "https://mlflow.example/team?a=b"),
    ],
)
def test_a_uri_without_a_password_stays_as_it_is(uri):
    assert hide_login(uri) == whole_uri(uri) == masked(uri).replace("***", "me") == uri


def test_the_password_of_a_database_is_hidden_and_found_again():
    hidden = hide_login(DATABASE)
    assert hidden == "postgresql://me:***@127.0.0.1:1/mlflow?sslmode=require"
    assert hide_login(hidden) == hidden
    assert whole_uri(hidden) == DATABASE


def test_the_login_of_a_server_goes_to_the_variables_of_mlflow(environment):
    import os

    hidden = hide_login(SERVER)
    assert hidden == "https://me:***@mlflow.example:5000/team"
    assert whole_uri(hidden) == "https://mlflow.example:5000/team" == without_login(hidden)
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss"


def test_a_server_takes_the_login_of_the_environment(environment):
    hidden = "https://me:***@mlflow.example:5000/team"
    environment.setenv("MLFLOW_TRACKING_USERNAME", "me")
    assert "MLFLOW_TRACKING_PASSWORD" in refusal(whole_uri, hidden)
    environment.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss")
    assert whole_uri(hidden) == "https://mlflow.example:5000/team"


def test_the_password_of_another_database_does_not_serve():
    hidden = hide_login(DATABASE)
    hide_login("postgresql://me:other@elsewhere/mlflow")
    message = refusal(whole_uri, hidden)
    assert "MLFLOW_TRACKING_URI" in message
    assert "--tracking-uri" in message


@pytest.mark.parametrize("name", ["password", "sslpassword", "Token", "aws_secret", "odbc_connect"])
def test_a_password_behind_a_question_mark_is_hidden_too(name):
    uri = f"mssql://host/mlflow?a=b&{name}={SECRET}&c=d"
    assert hide_login(uri) == f"mssql://host/mlflow?a=b&{name}=***&c=d"
    assert whole_uri(hide_login(uri)) == uri


@pytest.mark.parametrize("uri", [DATABASE, SERVER, f"ftp://me:{SECRET}@host", f"http://{SECRET}@h"])
def test_no_text_tells_a_login(uri):
    text = masked(f"MlflowException: request to '{uri}' failed: {uri}")
    assert SECRET not in text
    assert "p%40ss" not in text
    assert text.count("***") >= 2


def test_an_error_is_told_in_one_short_line_without_a_login():
    """Cut short before it is masked, a login would lose the sign by which it is known."""
    line = error_line(OSError(f"no room\n  {'x' * 260} at {DATABASE}"))
    assert line.startswith("no room xxx")
    assert len(line) <= 300
    assert SECRET not in line
    assert SECRET[:4] not in line


def test_an_error_that_says_nothing_is_named():
    assert error_line(TimeoutError()) == "TimeoutError"


def test_no_description_of_a_sweep_holds_one(tmp_path):
    assert "would be written" in refusal(small_spec, tmp_path, tracking_uri=DATABASE)
    assert SECRET not in refusal(small_spec, tmp_path, tracking_uri=DATABASE)
    spec = small_spec(tmp_path, tracking_uri=hide_login(DATABASE))
    prepare(spec, resume=False)
    assert SECRET not in (spec.folder / "sweep.yaml").read_text()
    assert load_spec(spec.folder).tracking_uri == spec.tracking_uri


def test_a_resume_asks_for_it_again(tmp_path, environment):
    spec = small_spec(tmp_path, tracking_uri=hide_login(DATABASE))
    prepare(spec, resume=False)
    environment.delenv("MLFLOW_TRACKING_URI")
    message = refusal(prepare, load_spec(spec.folder), resume=True)
    assert "is not kept with the sweep" in message
    hide_login(DATABASE)
    prepare(load_spec(spec.folder), resume=True)


@pytest.mark.parametrize("scheme", ["ftp", "http", "postgresql+nosuch", "sqlite"])
def test_no_refusal_tells_it(scheme):
    for uri in (f"{scheme}://me:{SECRET}@[x", f"{scheme}://planted@", f"{scheme}://a:{SECRET}@:x"):
        assert "planted" not in refusal(check_tracking_uri, uri)


def test_yaml_reads_what_was_hidden_as_text(tmp_path):
    hidden = hide_login(DATABASE)
    assert yaml.safe_load(yaml.safe_dump({"uri": hidden})) == {"uri": hidden}
