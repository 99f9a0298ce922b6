"""A process of its own that meets the zoo: bounded memory, time and files, and every program, socket and open noted.

``python -m tests.hostile.guard FOLDER`` prints a JSON object, a record for each animal.
"""

import json
import resource
import signal
import sys
import time
from pathlib import Path

from relmap.errors import InputError

from tests.hostile.zoo import SECRET, ZOO

MEMORY = 768 * 2**20
"""Bytes of addresses beyond those that are taken when all is imported."""
EACH, SECONDS = 10, 60
FILES = 160 * 2**20
_PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "socket.connect",
)
_PROGRAMS += ("socket.getaddrinfo", "pty.spawn", "ctypes.dlopen", "urllib.Request")


def too_long(*_):
    raise TimeoutError(f"more than {EACH} seconds")


def size():
    """Addresses of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def bound():
    """Memory, time and files from here on."""
    for what, limit in (
        (resource.RLIMIT_AS, size() + MEMORY),
        (resource.RLIMIT_CPU, int(time.process_time()) + SECONDS),
        (resource.RLIMIT_FSIZE, FILES),
    ):
        resource.setrlimit(what, (limit, limit))


def meet(read, seen):
    """What becomes of one animal."""
    seen.clear()
    before = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, EACH)
    try:
        read()
        end, says = "read", ""
    except InputError as error:
        end, says = "refused", str(error)
    except BaseException as error:
        end, says = type(error).__name__, str(error)[:300]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"end": end, "says": says, "seconds": time.process_time() - before, "seen": sorted(map(str, seen))}


def main():
    root, seen = Path(sys.argv[1]), set()

    def watch(event, arguments):
        if event in _PROGRAMS:
            seen.add(event)
        elif event == "open" and str(arguments[0]).endswith("secret"):
            seen.add(f"open {arguments[0]}")

    met = {}
    readers = {}
    for kind, name in ZOO:
        folder = root / kind / name / "data"
        folder.mkdir(parents=True)
        (folder.parent / "secret").write_text(SECRET)
        readers[kind, name] = ZOO[kind, name][0](folder)
    bound()
    sys.addaudithook(watch)
    signal.signal(signal.SIGPROF, too_long)
    for (kind, name), read in readers.items():
        print(kind, name, file=sys.stderr, flush=True)  # the last line names the one that ended the process
        folder = root / kind / name
        found = meet(read, seen)
        left = {path.relative_to(folder).parts[0] for path in folder.rglob("*")} - {"data", "secret", "other.h5"}
        met[f"{kind}/{name}"] = {
            **found,
            "outside": sorted(left),
            "unpacked": len([*(folder / "data" / "out").glob("*")]),
            "executed": any(path.name == "executed" for path in folder.rglob("*")),
            "evil": any(path.name.startswith("evil") for path in folder.rglob("*")),
        }
    print(json.dumps(met))


if __name__ == "__main__":
    main()
