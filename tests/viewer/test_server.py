"""The viewer's server: what it gives, and what it refuses."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import evlift
from evlift.cli import main
from evlift.errors import ConfigError, DataError, FormatError
from evlift.viewer import open_viewer
from helpers import tiny


@contextmanager
def served(recording, run=None):
    with open_viewer(recording, run, port=0) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, daemon=True)
        thread.start()
        try:
            yield viewer
        finally:
            viewer.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 100_000, 5000))
    stream = evlift.EventStream.from_columns(
        t, rng.integers(0, 40, 5000), rng.integers(0, 30, 5000), rng.random(5000) < 0.5, sensor_size=(30, 40)
    )
    path = tmp_path_factory.mktemp("recordings") / "a.npz"
    evlift.write_events(path, stream)
    return path


@pytest.fixture(scope="module")
def viewer(recording):
    with served(recording) as viewer:
        viewer.recording.wait()
        yield viewer


def ask(viewer, path="/", *, method="GET", headers=None, host=None):
    """(status, body, headers) of one request, sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{viewer.server_port}")
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def parsed(body, pixels):
    head = 4 + int.from_bytes(body[:4], "little")
    return (
        json.loads(body[4:head]),
        np.frombuffer(body[head : head + pixels], np.uint8),
        body[head + pixels :],
    )


def test_the_page_and_its_parts(viewer):
    for path, kind in (("/", "text/html"), ("/viewer.css", "text/css"), ("/viewer.js", "text/javascript")):
        status, body, headers = ask(viewer, path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert b"://" not in body  # nothing from elsewhere
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_is_in_the_recording(viewer):
    about = json.loads(ask(viewer, "/api/about")[1])
    assert (about["width"], about["height"], about["format"], about["run"]) == (40, 30, "npz", None)
    line = json.loads(ask(viewer, "/api/timeline")[1])
    assert line["done"]
    assert line["events"] == np.sum(line["off_on"]) == 5000


def test_a_frame_holds_the_window(viewer, recording):
    body = ask(viewer, "/api/frame?start=20000&length=10000")[1]
    said, pixels, rest = parsed(body, 1200)
    window = evlift.read_events(recording, 20_000, 30_000)
    assert said == {"events": len(window), "on": int(window.p.sum()), "off": int((~window.p).sum())}
    assert rest == b""
    counts = (pixels & 15).astype(int) + (pixels >> 4)
    assert counts.sum() == len(window)


@pytest.mark.parametrize(
    "query",
    ["", "?start=0", "?start=a&length=1000", "?start=0&start=1&length=1000", "?start=0&length=99",
     "?start=0&length=10000001", "?start=1e3&length=1000", "?start=99999999999999999999&length=1000",
     "?start=0&length=" + "9" * 5000],
)  # fmt: skip
def test_windows_that_make_no_sense_are_refused(viewer, query):
    status, body, _ = ask(viewer, "/api/frame" + query)
    assert status == 400
    assert b"Expected" in body


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", "[::1]:{port}"],
)
def test_other_hosts_are_refused(viewer, host):
    for path in ("/", "/api/about", "/api/frame?start=0&length=1000"):
        status, body, _ = ask(viewer, path, host=host.format(port=viewer.server_port))
        assert status == 403
        assert b"a.npz" not in body


def test_two_hosts_are_refused(viewer):
    assert ask(viewer, headers={"Host": f"127.0.0.1:{viewer.server_port}"})[0] == 403


def test_localhost_is_this_machine(viewer):
    assert ask(viewer, host=f"localhost:{viewer.server_port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
     {"Origin": "https://127.0.0.1:{port}"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_other_origins_are_refused(viewer, headers):
    sent = {name: value.format(port=viewer.server_port) for name, value in headers.items()}
    assert ask(viewer, "/api/frame?start=0&length=1000", headers=sent)[0] == 403


def test_the_own_origin_is_served_and_no_other_may_read(viewer):
    sent = {"Origin": f"http://127.0.0.1:{viewer.server_port}", "Sec-Fetch-Site": "same-origin"}
    status, _, headers = ask(viewer, "/api/about", headers=sent)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "PATCH", "CONNECT", "ANY"]
)
def test_get_is_the_only_method(viewer, method):
    status, _, headers = ask(viewer, method=method)
    assert status == 405
    assert headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd",
     "//etc/passwd", "/viewer.js/../server.py", "/server.py", "/viewer.css%00.js", "/a.npz", "/api", "/api/frame/",
     "\\..\\etc", "http://evil.example/", "http://[evil/", "*", "/page.html"],
)  # fmt: skip
def test_no_address_leads_to_a_file(viewer, path, capfd):
    status, body, _ = ask(viewer, path)
    assert status == 404
    assert b"root:" not in body
    assert "Traceback" not in capfd.readouterr().err


def test_it_listens_on_loopback_alone(viewer):
    assert viewer.server_address[0] == "127.0.0.1"
    assert viewer.socket.getsockname()[0] == "127.0.0.1"
    with socket.socket() as outside:
        other = socket.gethostbyname(socket.gethostname())
        if not other.startswith("127."):
            outside.settimeout(2)
            with pytest.raises(OSError):
                outside.connect((other, viewer.server_port))


def test_a_client_that_hangs_up_says_nothing(viewer, capfd):
    import struct

    with socket.create_connection(("127.0.0.1", viewer.server_port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET / HT")
    assert ask(viewer)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_in_use_is_named_with_the_remedy(viewer, recording, capsys):
    with pytest.raises(ConfigError, match=r"in use. Give another --port"):
        open_viewer(recording, port=viewer.server_port)
    assert main(["view", str(recording), "--no-browser", "--port", str(viewer.server_port)]) == 2
    assert "in use" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="0 to 65535"):
        open_viewer(recording, port=70_000)


def test_what_cannot_be_viewed_is_refused(tmp_path, recording):
    with pytest.raises(FormatError):
        open_viewer(tmp_path / "nothing.raw", port=0)
    with pytest.raises(DataError):
        open_viewer(recording, tmp_path / "no-run", port=0)


def test_a_run_answers_for_every_window(recording, tmp_path):
    run = evlift.train(tiny(), tmp_path / "run")
    with served(recording, run.folder) as viewer:
        about = json.loads(ask(viewer, "/api/about")[1])
        assert about["run"] == "run"
        assert len(about["classes"]) == 10
        said, _, mask = parsed(ask(viewer, "/api/frame?start=0&length=100000")[1], 1200)
        (expected,) = evlift.predict(run.folder, recording)
        assert said["best"][0] == [expected.label, pytest.approx(expected.confidence, abs=1e-4)]
        assert said["mask"] is None
        assert mask == b""
        empty, _, _ = parsed(ask(viewer, "/api/frame?start=9000000&length=1000")[1], 1200)
        assert "best" not in empty


def test_an_exported_network_answers_as_predict_does_whatever_the_sensor(tmp_path):
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 90_000, 2000)), *(rng.integers(20, 54, (2, 2000)))
    stream = evlift.EventStream.from_columns(*columns, rng.random(2000) < 0.5, sensor_size=(68, 90))
    evlift.write_events(tmp_path / "a.npz", stream)
    folder = evlift.train(tiny(train={"steps": 1, "eval_every": 0}), tmp_path / "run").folder
    (expected,) = evlift.predict(folder, tmp_path / "a.npz")
    file = evlift.export(folder, "pt2", tmp_path / "m.pt2").path
    with served(tmp_path / "a.npz", file) as viewer:
        assert json.loads(ask(viewer, "/api/about")[1])["run"] == "m.pt2"
        said, _, _ = parsed(ask(viewer, "/api/frame?start=0&length=100000")[1], 68 * 90)
    assert said["best"][0] == [expected.label, pytest.approx(expected.confidence, abs=1e-4)]


def test_a_run_with_masks_answers_with_a_mask(recording, tmp_path):
    changes = {
        "data": {"name": "simulated-digit-masks", "recordings": 100},
        "input": {"size": [32, 32], "encoding": "saccade"},
        "model": {"name": "unet", "width": 0.25},
        "method": {"name": "source-only"},
        "train": {"steps": 2, "eval_every": 0},
    }
    run = evlift.train(tiny(**changes), tmp_path / "run")
    with served(recording, run.folder) as viewer:
        said, _, mask = parsed(ask(viewer, "/api/frame?start=0&length=50000")[1], 1200)
        assert said["mask"] == [32, 32]
        assert len(mask) == 1024
        assert sum(share for _, share in said["best"]) <= 1.0001


def test_ctrl_c_is_the_regular_end(recording):
    command = [sys.executable, "-m", "evlift", "view", str(recording), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "ended" in said
    assert complained == ""
