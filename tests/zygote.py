"""A process that has imported torch once and forks a real process for each run a test asks for.

A test that kills runs needs dozens of processes, and importing torch takes seconds. Requests and answers are lines
of JSON: {"argv", "cwd", "output", "env", "limit"} -> {"pid"}; {"wait": pid} -> {"status"}.
"""

import json
import os
import resource
import sys

import torch._dynamo  # noqa: F401  (what the first optimizer would import)

import trainer.__main__ as program
import trainer.display
import trainer.loop  # noqa: F401
from data import digits, tables  # noqa: F401
from models import cnn, mlp  # noqa: F401


def child(request: dict) -> None:
    """Becomes the run; never returns."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    program.TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"  # read at import, before the fork
    if request["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    sys.argv = ["conga", *request["argv"]]
    code = 1
    try:
        program.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        _, status = os.waitpid(request["wait"], 0)
        answer = {"status": os.waitstatus_to_exitcode(status)}
    else:
        pid = os.fork()
        if pid == 0:
            child(request)
        answer = {"pid": pid}
    print(json.dumps(answer), flush=True)
