"""The embedded model's own process: llama.cpp's OpenAI-compatible server for one GGUF file, on loopback.

Started by gateway/local_model.py, which writes one line of JSON (`Settings` there) to standard input and keeps it open:
when it closes, the gateway is gone and so is this process. One line of JSON comes back on standard output, when the
model is ready or has failed. llama.cpp's own lines go to standard error. Imports nothing of the gateway.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.stdin.buffer.readline())
    _end_with(settings["parent"])
    _stand_back()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints to standard output must not be taken for an answer
    parent_gone = threading.Thread(target=_wait_for_end, daemon=True)
    parent_gone.start()
    try:
        server = _serve(settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the gateway has to say it
        print(json.dumps({"error": str(error) or type(error).__name__}), file=answers, flush=True)
        os._exit(1)
    print(json.dumps({"address": server.listening_address}), file=answers, flush=True)
    parent_gone.join()


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp  # heavy, and only here

    params = xllamacpp.CommonParams()
    params.model.path = settings["model_file"]
    params.model_alias = {settings["model"]}
    params.port = settings["port"]
    params.reuse_port = True  # the gateway holds the port with a socket that does not listen
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [settings["api_key"]]
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = ""
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"] * settings["slots"]
    for processors in (params.cpuparams, params.cpuparams_batch):
        # llama.cpp's threads wait for each other after every step: one that shares its processor holds up all of them
        # (measured on two busy cores: one thread 26 tokens/s, two threads 2), and waiting by spinning makes it worse
        processors.n_threads = settings["threads"]
        processors.poll = 0
    params.n_threads_http = 16  # a waiting request holds one; health checks must still get through
    params.warmup = False  # the first answer warms up as well
    params.cache_ram_mib = 0  # prompts of other conversations are not worth gigabytes here
    params.cache_idle_slots = False  # needs that cache
    params.fit_params = False
    # The model card asks for a temperature of 0.2 and top_p 0.9. A model this small likes to repeat itself: DRY
    # discourages long repetitions, a mild penalty the short ones in which "Who are you?" went round, and an end is set.
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.15
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 4
    params.n_predict = settings["most_tokens"]
    return xllamacpp.Server(params)


def _end_with(parent: int) -> None:
    """Die with the gateway even while llama.cpp loads and nothing reads standard input."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another libc: the end of standard input will do
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _stand_back() -> None:
    """The gateway comes first: for processor time, and when memory runs out. Ctrl-C is the gateway's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _wait_for_end() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
