"""Static checks of the balancer's nginx file: an operator's, and the one that is rendered here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smallcluster import static
from smallcluster.errors import AskedWronglyError
from smallcluster.render import render
from smallcluster.settings import load
from smallcluster.static import nginx

GOOD = """
events {}
http {
    upstream nodes { server a:8080; server b:8080; keepalive 16; }
    server {
        listen 80;
        proxy_read_timeout 90s;
        location / {
            proxy_pass http://nodes;
            proxy_set_header Host $host;
            proxy_set_header Authorization $http_authorization;
            proxy_next_upstream error timeout;
            proxy_buffering off;
        }
    }
}
"""
HTTP_ONLY = "nginx-passes-http-only"
BINDS = "nginx-binds-nobody-to-a-node"
EVERY_NODE = "nginx-passes-to-every-node"
HEADERS = "nginx-keeps-headers"
TWICE = "nginx-sends-no-request-twice"
TIMEOUT = "nginx-outwaits-long-polls"
BUFFERS = "nginx-passes-answers-at-once"


def not_holding(text: str, folder: Path) -> dict[str, str]:
    path = folder / "nginx.conf"
    path.write_text(text)
    seen = nginx.read(path)
    return {one.id: found.verdict.value for one in static.OF_NGINX if (found := one.run(seen)).verdict.value != "holds"}


def test_a_good_file_holds(tmp_path: Path) -> None:
    assert not_holding(GOOD, tmp_path) == {}


@pytest.mark.parametrize(
    ("good", "bad", "check", "verdict"),
    [
        ("events {}", "events {} stream { server { listen 1; } }", HTTP_ONLY, "broken"),
        ("server a:8080; server b", "ip_hash; server a:8080; server b", BINDS, "broken"),
        ("keepalive 16", "hash $remote_addr consistent", BINDS, "broken"),
        ("keepalive 16", "sticky cookie node", BINDS, "broken"),
        ("server a:8080; server b:8080;", "server 10.0.0.1:8080;", EVERY_NODE, "broken"),
        ("server a:8080; server b:8080;", "server nodes:8080;", EVERY_NODE, "unknown"),
        ("server b:8080", "server b:8080 backup", EVERY_NODE, "broken"),
        ("server b:8080", "server b:8080 down", EVERY_NODE, "broken"),
        ("server b:8080;", "server b:8080; server c:8080; server d:8080;", EVERY_NODE, "broken"),
        ("http://nodes", "http://10.0.0.1:8080", EVERY_NODE, "broken"),
        ("http://nodes", "http://$chosen", EVERY_NODE, "unknown"),
        ("$http_authorization", '""', HEADERS, "broken"),
        ("proxy_set_header Host $host", 'proxy_set_header X-Namespace "default"', HEADERS, "broken"),
        ("proxy_set_header Host $host", "proxy_pass_request_headers off", HEADERS, "broken"),
        ("error timeout", "error timeout non_idempotent", TWICE, "broken"),
        ("90s", "30s", TIMEOUT, "broken"),
        ("proxy_read_timeout 90s;", "", TIMEOUT, "broken"),
        ("90s", "2m", TIMEOUT, "holds"),
        ("90s", "500ms", TIMEOUT, "broken"),
        ("90s", "$patience", TIMEOUT, "broken"),
        ("proxy_buffering off", "proxy_buffering on", BUFFERS, "broken"),
        ("proxy_buffering off;", "", BUFFERS, "broken"),
    ],
)
def test_one_line_that_is_wrong(good: str, bad: str, check: str, verdict: str, tmp_path: Path) -> None:
    assert good in GOOD
    assert not_holding(GOOD.replace(good, bad), tmp_path) == ({} if verdict == "holds" else {check: verdict})


def test_the_innermost_timeout_counts(tmp_path: Path) -> None:
    inside = GOOD.replace("proxy_pass", "proxy_read_timeout 5s; proxy_pass")
    assert not_holding(inside, tmp_path) == {TIMEOUT: "broken"}


def test_the_finding_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(GOOD.replace("90s", "30s"))
    judged = nginx.nginx_outwaits_long_polls.run(nginx.read(path)).judgement
    assert judged.evidence == (f"{path}:7: proxy_read_timeout 30s",)


def test_a_file_that_balances_nothing_is_unknown(tmp_path: Path) -> None:
    found = not_holding("events {} http { server { listen 80; return 503; } }", tmp_path)
    assert found == dict.fromkeys((check.id for check in static.OF_NGINX), "unknown")


def test_includes_are_followed(tmp_path: Path) -> None:
    (tmp_path / "nodes.conf").write_text("upstream nodes { ip_hash; server a:8080; server b:8080; }")
    text = GOOD.replace("upstream nodes { server a:8080; server b:8080; keepalive 16; }", "include nodes*.conf;")
    assert not_holding(text, tmp_path) == {BINDS: "broken"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http {", "expecting"),
        ("http { include missing.conf; }", "missing.conf"),
        ("}", "unexpected"),
        (None, "no such"),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_reason(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AskedWronglyError) as refused:
        nginx.read(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("nodes", [2, 3])
def test_what_is_rendered_here_holds(nodes: int, tmp_path: Path) -> None:
    settings = load("mysql", nodes=nodes, exported={}, state=tmp_path)
    [conf] = [path for path in render(settings) if path.name == "nginx.conf"]
    assert not_holding(conf.read_text(), tmp_path) == {}


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("75s", 75), ("5m", 300), ("100ms", 0.1), ("soon", None)])
def test_lengths_of_time(text: str, length: float | None) -> None:
    assert nginx.seconds(text) == length


def test_a_node_that_is_known_to_be_there_must_be_in_the_upstream(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(GOOD.replace("server b:8080;", ""))
    seen = nginx.read(path)
    verdicts = {nodes: nginx.nginx_passes_to_every_node.run(replace(seen, nodes=nodes)).verdict.value
                for nodes in ((), ("a",), ("a", "b"))}  # fmt: skip
    assert verdicts == {(): "unknown", ("a",): "unknown", ("a", "b"): "broken"}
