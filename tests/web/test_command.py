"""`keel label`: what it opens, prints, refuses, and leaves behind."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from keel import cli
from keel.commands.label.place import beside
from keel.errors import UserError
from keel.preferences.candidates import read_candidates
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from keel.preferences.web.address import check, remember, remembered
from keel.preferences.web.serving import address_of, check_exposure, listen
from tests.web.processes import Serving

ROWS = [
    {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"},
    {"prompt": "Capital of France?", "chosen": "Paris", "rejected": "Lyon"},
    {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "answers.jsonl", [{"prompt": "p", "answers": ["x", "y"]}])
    return write(tmp_path / "pairs.jsonl", ROWS)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """A command that must succeed; what it printed, from JSON."""

    def call(*argv: str) -> Any:
        assert cli.run(["label", *argv, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command that must be refused; the sentence."""

    def call(*argv: str) -> str:
        assert cli.run(["label", *argv]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("keel: error: ")
        assert err.count("\n") == 1
        return err

    return call


# The server


def test_from_a_file_to_judgements_and_on_again(data: Path, tmp_path: Path) -> None:
    with Serving("--from", str(data), "--port", "0", "--name", "ada", folder=tmp_path) as server:
        facts = server.facts
        assert facts["address"].startswith("http://127.0.0.1:")
        assert (facts["items"], facts["missing"], facts["judgements"]) == (3, 3, 0)
        assert facts["database"] == str(tmp_path / "pairs.labels.db")
        with server.browser() as ada:
            me = ada.get("/api/me").json()
            assert (me["name"], me["role"]) == ("ada", "admin")
            (held,) = ada.post("/api/next", json={}).json()["items"]
            body = {"token": held["token"], "guideline": 1, "pressed": 1}
            assert ada.post("/api/judgements", json=body).status_code == 200
        assert server.stop(signal.SIGTERM) == 143
        assert facts["link"].rsplit("/", 1)[1] not in server.said()
    with Serving("--from", str(data), "--port", "0", "--name", "ada", folder=tmp_path) as again:
        assert (again.facts["items"], again.facts["missing"], again.facts["judgements"]) == (3, 2, 1)
        assert again.stop(signal.SIGINT) == 0


def test_what_people_read(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "keel", "label", "--from", str(data), "--port", "0", "--name", "ada"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
    assert lines[0] == "0 of 3 items are done; 3 judgements are still wanted.\n"
    assert lines[1].startswith("Serving at http://127.0.0.1:")
    assert "/in/" in lines[3]
    assert rest.endswith(f"To go on:\n\n  keel label {tmp_path / 'pairs.labels.db'}\n")
    assert err == ""
    assert process.returncode == 0


def test_options_reach_the_queue(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "gold.jsonl", [{"prompt": "Gold?", "chosen": "yes", "rejected": "no"}])
    (tmp_path / "rules.md").write_text("# Mine", encoding="utf-8")
    arguments = [
        "--from",
        str(data),
        "--k",
        "3",
        "--gold",
        "gold.jsonl",
        "--gold-share",
        "1",
        "--guidelines",
        "rules.md",
    ]
    with Serving(*arguments, "--port", "0", folder=tmp_path) as server, server.browser() as ada:
        assert server.facts["missing"] == 9
        assert ada.get("/api/guidelines").json()["text"] == "# Mine"
        (held,) = ada.post("/api/next", json={}).json()["items"]
        assert held["prompt"][0]["text"] == "Gold?"
        assert ada.get("/api/review").json()["counts"]["gold"] == 1


def test_the_next_port_is_taken_where_one_is_in_use() -> None:
    first = listen("127.0.0.1", None, 18765)
    second = listen("127.0.0.1", None, 18765)
    try:
        assert first.getsockname()[1] != second.getsockname()[1]
        with pytest.raises(UserError, match="cannot be had"):
            listen("127.0.0.1", first.getsockname()[1], 18765)
    finally:
        first.close()
        second.close()
    with pytest.raises(UserError, match="no such host"):
        listen("no.such.host.invalid", None, 18765)


def test_with_tls(data: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate")
    arguments = ["--from", str(data), "--port", "0", "--host", "0.0.0.0", "--tls-cert", str(certificate)]
    with Serving(*arguments, "--tls-key", str(key), folder=tmp_path) as server:
        assert server.address.startswith("https://")
        port = server.address.rsplit(":", 1)[1]
        trust = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust) as client:
            reply = client.post("/in", data={"secret": server.facts["link"].rsplit("/", 1)[1]})
            assert (reply.status_code, "; secure" in reply.headers["set-cookie"].lower()) == (303, True)


def test_a_run_that_programs_have_judged(tmp_path: Path) -> None:
    from tests.web.kit import pairs

    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    with PreferenceStore.open(run / "preferences.db") as store:
        store.add_items(pairs(4))
    with Serving(str(run), "--port", "0", "--k", "2", folder=tmp_path) as server:
        assert (server.facts["items"], server.facts["missing"]) == (4, 8)


# What is refused


def test_other_machines_need_tls_or_a_word(refused: Callable[..., str], data: Path) -> None:
    assert "without encryption" in refused("--from", str(data), "--host", "0.0.0.0")
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_exposure(host, None, False, None)
    check_exposure("0.0.0.0", None, True, None)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org"):
        with pytest.raises(UserError, match="--tls-cert"):
            check_exposure(host, None, False, None)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "what is to be labelled"),
        (["nothing"], "no such run or database"),
        (["."], "holds no preferences.db"),
        (["--from", "nothing.jsonl"], "no such file"),
        (["a", "--from", "pairs.jsonl"], "given twice"),
        (["--from", "pairs.jsonl", "--k", "0"], "--k 0"),
        (["--from", "pairs.jsonl", "--gold-share", "2"], "are shares"),
        (["--from", "pairs.jsonl", "--tls-cert", "x"], "go together"),
        (["--from", "pairs.jsonl", "--tls-cert", "pairs.jsonl", "--tls-key", "pairs.jsonl"], "no certificate"),
        (["--from", "pairs.jsonl", "--guidelines", "x.md"], "cannot be read"),
        (["--from", "pairs.jsonl", "--address", "example.org"], "no address"),
        (["--from", "pairs.jsonl", "--port", "99999"], "cannot be had"),
        (["--from", "pairs.jsonl", "--name", ""], "printable characters"),
        (["--from", "pairs.jsonl", "--gold", "answers.jsonl"], "a preference needs"),
        (["--from", "pairs.jsonl", "--database", "mysql://x/y"], "SQLite or PostgreSQL"),
        (["--from", "pairs.jsonl", "--prot", "1"], "did you mean '--port'"),
        (["invite", "bob"], "which labels are meant"),
        (["invite", "bob", "--of", "nothing"], "no such run or database"),
        (["people", "--of", "."], "holds no preferences.db"),
        (["token", "bob", "--scope", "all", "--of", "."], "choose from"),
    ],
)
def test_what_is_refused(refused: Callable[..., str], data: Path, argv: list[str], words: str) -> None:
    assert words in refused(*argv)


# People


def test_people_by_command(say: Callable[..., Any], refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    database = tmp_path / "pairs.labels.db"
    with PreferenceStore.open(database) as store:
        store.add_annotator("sim", "simulated")
    assert "no server is known" in refused("invite", "bob")
    remember(database, "https://label.example.org")
    made = say("invite", "bob", "--role", "reviewer")
    assert made["link"].startswith("https://label.example.org/in/")
    assert say("invite", "bob", "--role", "reviewer", "--address", "http://10.0.0.1:99")["link"].startswith(
        "http://10.0.0.1:99/in/"
    )
    assert "already known as reviewer" in refused("invite", "bob", "--role", "admin")
    assert "does not allow" in refused("token", "bob", "--scope", "admin")
    assert "invite the name first" in refused("token", "eve")
    token = say("token", "bob", "--scope", "label")["token"]
    with PreferenceStore.open(database) as store:
        people = People(store.database)
        person = people.who(token, "token")
        assert person is not None
        assert person.powers == ("label",)
    assert say("revoke", "bob", "--of", str(database)) == {"name": "bob", "revoked": 3}
    with PreferenceStore.open(database) as store:
        assert People(store.database).who(token, "token") is None
    assert "nobody is called 'eve'" in refused("revoke", "eve")
    assert [(one["name"], one["role"], one["judgements"]) for one in say("people")] == [
        ("sim", "simulated", 0), ("bob", "reviewer", 0),
    ]  # fmt: skip


def test_the_table_of_people(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PreferenceStore.open("pairs.labels.db") as store:
        People(store.database).invite("ada", "annotator")
    assert cli.run(["label", "people"]) == 0
    assert capsys.readouterr().out == "name  role       state   judgements  last\nada   annotator  active  0\n"
    assert cli.run(["label", "revoke", "ada"]) == 0
    assert capsys.readouterr().out == "1 links, sessions and tokens of ada let nobody in any more\n"


@pytest.mark.parametrize("command", ["invite", "token", "revoke", "people"])
def test_each_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(["label", command, "--help"])
    assert stopped.value.code == 0
    assert "usage: keel label" in capsys.readouterr().out


def test_addresses(tmp_path: Path) -> None:
    assert check("HTTPS://Label.example.org:8443/") == "https://label.example.org:8443"
    for wrong in (
        "label.example.org",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x/y",
        "http://x:99999",
        "http://x?y",
    ):
        with pytest.raises(UserError):
            check(wrong)
    database = tmp_path / "x.db"
    assert remembered(database) is None
    for broken in ("", "{}", "[]", '{"address": 1}', '{"address": "javascript:alert(1)"}'):
        (tmp_path / "x.address.json").write_text(broken, encoding="utf-8")
        assert remembered(database) is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert address_of(listener, None) == f"http://127.0.0.1:{listener.getsockname()[1]}"


# Items from files


def test_candidates_in_every_shape(tmp_path: Path) -> None:
    conversation = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    shapes: list[dict[str, Any]] = [
        {"prompt": "p", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "answers": ["x", "y"]},
        {"prompt": "p", "completions": ["x", "y"]},
        {"prompt": "p", "response1": "x", "response2": "y", "annotator1": 1},
        {"prompt": "p", "response_a": "x", "response_b": "y"},
        {"question": "p", "Answer 1": None, "answer1": "x", "answer2": "y", "answer3": None},
        {"instruction": "p", "input": "", "output_2": "y", "output_1": "x"},
        {"prompt": [{"role": "user", "content": "p"}], "responses": [[{"role": "assistant", "content": "x"}], "y"]},
    ]
    ids = set()
    for number, row in enumerate(shapes):
        (made,) = read_candidates(write(tmp_path / f"{number}.jsonl", [row])).items
        assert [answer.messages[0].content for answer in made.answers] == ["x", "y"]
        ids.add(made.id)
    assert len(ids) == 1
    (made,) = read_candidates(write(tmp_path / "c.jsonl", [{"prompt": conversation, "answers": ["d", "e", "f"]}])).items
    assert len(made.prompt) == 3
    assert len(made.answers) == 3


def test_what_is_left_out_of_a_file_is_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answers": ["x", "y"]}] * 3 + [{"prompt": "p", "answers": ["x", "x"]}]
    found = read_candidates(write(tmp_path / "x.jsonl", rows))
    assert (len(found.items), found.repeated, found.alike) == (1, 2, 1)
    assert "2 rows left out that say the same" in str(found)
    pairs = [{"prompt": "p", "chosen": "x", "rejected": "x"}, {"prompt": "p", "chosen": "x", "rejected": "y"}]
    assert read_candidates(write(tmp_path / "y.jsonl", pairs)).alike == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p"}, "an item to label needs"),
        ({"answers": ["x", "y"]}, "an item to label needs"),
        ({"prompt": "p", "answers": "x"}, "should be a list"),
        ({"prompt": "p", "answers": ["x"]}, "no row has two answers that differ"),
        ({"prompt": "p", "response1": "x", "answer2": "y"}, "several names"),
        ({"prompt": "p", "response1": "x"}, "an item to label needs"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_candidates(write(tmp_path / "x.jsonl", [row]))


def test_where_the_database_of_a_file_lies() -> None:
    assert beside("data/x.jsonl").path == Path("data/x.labels.db")
    assert beside("x.csv.gz").path == Path("x.labels.db")
    assert beside("x.parquet").path == Path("x.labels.db")
