"""How much of Feishu's SDK is loaded, in processes of their own, and that the rest of it stays usable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PIECES = """
import importlib.util, json, sys, time, aiohttp, structlog
def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before, began = memory(), time.perf_counter()
spec = importlib.util.spec_from_file_location("sdk", "adapters/feishu/sdk.py")  # without what else the adapter needs
sdk = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sdk)
load_frame, load_decrypt = sdk.load_frame, sdk.load_decrypt
"""

TELL = """
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "bytes": memory() - before,
    "lark": sorted(name for name in sys.modules if name.split(".")[0] == "lark_oapi"),
}))
"""

FORBID = """
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "lark_oapi", f"{name} is imported late"
sys.meta_path.insert(0, Forbidden())
"""

USE = """
from adapters.feishu import frames
raw = frames._Frame()
raw.SeqID, raw.LogID, raw.service, raw.method = 1, 2, 3, 1
raw.payload_encoding, raw.payload_type, raw.LogIDNew, raw.payload = "none", "json", "x", b"{}"
for key in ("type", "message_id"):
    header = raw.headers.add()
    header.key, header.value = key, key
frame = frames.Frame.read(raw.SerializeToString())
again = frames.Frame.read(frame.answer({"toast": {}}, 0.25))
assert (again.message_id, again.number("biz_rt")) == ("message_id", 250)
assert frames.Frame.read(b"\\xff\\xff") is None
assert frames.Frame.read(b"") is None
assert frames.ping(3)
"""


def run(program: str) -> Any:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pieces_cost_little_and_leave_nothing_behind() -> None:
    told = run(f"{PIECES}\nload_frame()\nload_decrypt('key'){TELL}")
    print(f"{told['seconds']:.3f} s, {told['bytes'] / 1e6:.1f} MB")
    assert told["lark"] == []
    assert told["seconds"] < 0.5 * SLACK
    assert told["bytes"] < 10e6


SLACK = 3.0
"""The machine may be busy with other tests; in peace it takes a tenth of the half second."""


def test_nothing_of_the_sdk_is_imported_when_frames_are_used() -> None:
    """protobuf imports some of itself within functions: then the SDK would be loaded whole, in the middle of a run."""
    assert run(f"{PIECES}\nload_frame(); load_decrypt('key'); import adapters.feishu{FORBID}{USE}{TELL}")["lark"] == []


def test_the_decryption_is_that_of_the_documentation() -> None:
    """https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case"""
    program = f"{PIECES}\nprint(json.dumps(load_decrypt('test key')('P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=')))"
    assert run(program) == "hello world"


def test_a_release_that_is_laid_out_differently_is_imported_whole(tmp_path: Path) -> None:
    """A package of the same name that only works if its `__init__` runs."""
    package = tmp_path / "lark_oapi"
    for folder in ("", "ws", "ws/pb"):
        (package / folder).mkdir()
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("READY = True\n")
    (package / "ws" / "pb" / "pbbp2_pb2.py").write_text(
        "from lark_oapi import READY\n"
        "class _Headers(list):\n"
        "    def add(self):\n        return type('Header', (), {})()\n"
        "class Frame:\n"
        "    def __init__(self): self.headers = _Headers()\n"
        "    def SerializeToString(self): return b''\n"
        "    def ParseFromString(self, data): pass\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PIECES}"
        "\nframe = load_frame()\nprint(json.dumps([frame.__name__, 'lark_oapi' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout.splitlines()[-1]) == ["Frame", True], done.stderr
    assert "laid out differently" in done.stdout + done.stderr


def test_without_the_sdk_the_error_names_it() -> None:
    """The registry tells how to install what is named (gateway/registry.py)."""
    program = (
        f"{PIECES}\nsys.path[:] = [each for each in sys.path if 'site-packages' not in each]"
        "\ntry:\n    load_frame()\nexcept ModuleNotFoundError as error:\n    print(json.dumps(error.name))"
    )
    assert run(program) == "lark_oapi"


@pytest.mark.slow
def test_the_whole_sdk_can_be_imported_afterwards_and_costs_what_is_saved() -> None:
    program = f"""{PIECES}
import adapters.feishu
mine = time.perf_counter() - began
began, before = time.perf_counter(), memory()
import lark_oapi
from lark_oapi.ws.pb.pbbp2_pb2 import Frame
lark_oapi.Client.builder().app_id("a").app_secret("b").build().im.v1.message
lark_oapi.ws.Client("a", "b")
Frame(SeqID=1, LogID=1, service=1, method=1).SerializeToString()
from adapters.feishu import frames
assert frames.ping(1) and Frame is not frames._Frame
{TELL}
"""
    told = run(program)
    print(f"the whole SDK: {told['seconds']:.1f} s, {told['bytes'] / 1e6:.0f} MB, {len(told['lark'])} modules")
    assert len(told["lark"]) > 5_000
    assert told["bytes"] > 50e6
