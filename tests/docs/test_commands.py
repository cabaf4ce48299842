"""Every command of README.md and docs/ is run by a test, or stands here with the reason why none can run it.

What stands in no table fails; so does an entry that no page has any more, or whose test is gone. Whoever runs it, its
options are ones that the command has.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess

import pytest

from akasha_stream.cli import COMMANDS, exits
from tests.cli.running import run
from tests.cli.tree import options_in, unknown_options
from tests.docs.commands import ROOT, Command, commands

RUN: dict[tuple[str, str], str] = {
    # (page, beginning of the command, or * for all of the page): the test that runs it
    ("README.md", "./run demo"): "tests/demo/test_demo.py::test_tables_fit_80_columns_without_colour",
    ("README.md", "./run test"): "tests/deploy/test_run_script.py::test_it_makes_the_environment_then_runs_the_command",
    ("README.md", "akasha-stream up --embedded"): (
        "tests/cli/test_up.py::test_up_embedded_takes_events_answers_and_leaves_nothing"
    ),
    ("README.md", "akasha-stream publish"): "tests/docs/test_commands.py::test_the_sample_is_publishable",
    ("README.md", "echo '{"): "tests/docs/test_commands.py::test_a_text_alone_is_publishable",
    ("README.md", "kafka-console-producer.sh"): (
        "tests/worker/test_foreign_producer.py::test_the_documented_example_from_the_console_producer_is_found"
    ),
    ("README.md", "akasha-stream search --"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("connections.md", "*"): "tests/connections/test_secured.py::test_all_of_it_with_two_workers",
    ("dependencies.md", "./run sbom"): (
        "tests/deploy/test_run_script.py::test_the_bill_of_materials_has_every_package_that_is_locked"
    ),
    ("dependencies.md", "./run audit"): "tests/deploy/test_run_script.py::test_an_audit_tells_what_the_service_knows",
    ("disaster-recovery.md", "akasha-stream"): "tests/recovery/test_drills.py",
    ("disaster-recovery.md", "rm -rf data"): "tests/recovery/test_drills.py",
    ("guide-differences.md", "uv run python examples/akasha_workflow.py"): "tests/guide/test_workflow.py",
    ("mcp.md", "akasha-stream mcp --port"): "tests/mcp/test_server.py",
    ("operating.md", "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1"): "tests/docs/test_commands.py::test_no_broker_is_code_4",
    ("operating.md", "echo $?"): "tests/docs/test_commands.py::test_no_broker_is_code_4",
    ("operating.md", "akasha-stream status"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("operating.md", "akasha-stream lag"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("operating.md", "akasha-stream tail"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("operating.md", "akasha-stream dlq"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("operating.md", "akasha-stream doctor"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("operating.md", "akasha-stream completion"): "tests/cli/test_completion.py::test_the_script_is_of_its_shell",
    ("replay.md", "akasha-stream"): "tests/docs/test_replay.py",
    ("searching.md", "akasha-stream search --"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("searching.md", "akasha-stream get"): "tests/cli/test_operations.py::test_the_pages_commands_run",
    ("security.md", "AKASHA_HTTP__HOST=0.0.0.0"): (
        "tests/docs/test_security.py::test_a_worker_on_an_open_address_says_what_the_page_says"
    ),
    ("security.md", "akasha-stream keys"): "tests/docs/test_security.py::test_the_commands",
    ("security.md", "export AKASHA_AUTH_KEYS_FILE"): "tests/docs/test_security.py::test_the_commands",
    ("testing.md", "uv run python -m tests.chaos"): "tests/chaos/test_chaos.py",
    ("testing.md", "uv run python -m tests.fuzz"): "tests/fuzz/test_bundles.py",
    ("tiers.md", "akasha-stream tiers"): "tests/cli/test_tiers.py",
}
NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "source .venv/bin/activate"): "the shell's own; ./run makes the file",
    (
        "README.md",
        'akasha-stream search "',
    ): "needs the embedder's model; tests/demo/test_demo.py searches by text",
    ("README.md", "curl"): "curl may be missing; tests/api/test_http.py posts the same",
    ("disaster-recovery.md", "aws s3 sync"): "Amazon's own program; the drills copy a bucket with boto",
    ("mcp.md", "pip install"): "installs from an index; the extra is checked by uv's lock file",
    ("operating.md", "source <(akasha-stream completion"): "needs bash's process substitution in a terminal",
    ("scaling.md", "AKASHA_DATA_DIR="): "runs until it is stopped; tests/worker/test_group.py starts second workers",
    ("searching.md", 'akasha-stream search "'): "needs the embedder's model; tests/demo/test_demo.py searches by text",
    ("searching.md", "curl"): "curl may be missing; tests/api/test_http.py posts the same",
    ("security.md", "export AKASHA_NODE_SECRET"): "openssl may be missing; tests/security start such workers",
    (
        "security.md",
        "akasha-stream worker",
    ): "runs until it is stopped; tests/security/test_worker.py starts such ones",
    ("security.md", "pip install"): "installs from an index",
    ("security.md", "export AKASHA_OIDC_ISSUER"): "needs an identity provider; tests/auth/test_oidc.py is one",
    ("telemetry.md", "pip install"): "installs from an index",
    ("telemetry.md", "OTEL_EXPORTER_OTLP_ENDPOINT"): "needs a collector; tests/telemetry/test_traces.py is one",
}


def _concerns(entry: tuple[str, str], command: Command) -> bool:
    page, beginning = entry
    return command.page == page and (beginning == "*" or command.text.startswith(beginning))


def test_every_command_is_run_or_listed_with_the_reason_why_not() -> None:
    found = commands()
    assert len(found) > 80
    unknown = [each for each in found if not any(_concerns(entry, each) for entry in (*RUN, *NOT_RUN))]
    assert unknown == []


def test_no_entry_is_out_of_date() -> None:
    found = commands()
    assert [entry for entry in (*RUN, *NOT_RUN) if not any(_concerns(entry, each) for each in found)] == []
    for place in RUN.values():
        file, _, name = place.partition("::")
        text = (ROOT / file).read_text()
        assert not name or re.search(rf"def {name}\(", text), place


def test_the_options_of_ours_are_known() -> None:
    ours = [each for each in commands() if each.words[:1] == ["akasha-stream"]]
    for each in ours:
        assert unknown_options(each.words[1:]) == [], each
        assert each.words[1] in COMMANDS, each
    assert sum(len(options_in(each.words)) for each in ours) > 40


def test_the_words_of_run_are_known() -> None:
    usage = subprocess.run([ROOT / "run", "help"], check=True, capture_output=True, text=True).stdout
    for each in commands():
        if each.words and each.words[0] == "./run":
            assert f"./run {each.words[1]}" in usage, each


def test_no_broker_is_code_4(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [each for each in commands() if each.text.startswith("KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1")]
    name, _, value = command.text.split()[0].partition("=")
    monkeypatch.setenv(name, value)
    ran = run(capsys, *command.words[1:])
    assert ran.code == exits.BROKER
    assert "error: " in ran.err


def test_the_sample_is_publishable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is not asked; tests/publish/test_command.py publishes to one."""
    monkeypatch.chdir(ROOT)
    (command,) = [each for each in commands() if each.text.startswith("akasha-stream publish")]
    ran = run(capsys, *command.words[1:], "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["published"] > 100


def test_a_text_alone_is_publishable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKASHA_EMBEDDER__KIND", "python")
    monkeypatch.setenv("AKASHA_EMBEDDER__FACTORY", "tests.docs.embedder:Letters")
    (command,) = [each for each in commands() if each.text.startswith("echo '{")]
    line, _, publish = command.text.partition(" | ")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(shlex.split(line)[1].encode())))
    ran = run(capsys, *shlex.split(publish)[1:], "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["published"], ran.json["embedded"], ran.json["refused"]) == (1, 1, 0)
