"""What every script of the workflow does first: its log file, its threads, and one clear line when input is wrong."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from relmap.errors import InputError
from relmap.job.gpu import gpu_slot

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def job(log: str, threads: int | None = None, gpus: int = 0) -> Iterator[logging.Logger]:
    """Run the block with logging, warnings and progress bars going to the file ``log``.

    An ``InputError`` in the block ends the process with status 1 and one line, ``error: ...``, in the log and on the
    terminal; any other exception with its traceback in both.

    Args:
        log: path of the log file; written anew.
        threads: torch's threads; ``None`` leaves torch alone (and unimported).
        gpus: how many the job has asked for. Of those that there are it waits for one, and sees no other.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with open(log, "w", buffering=1, encoding="utf-8") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter(FORMAT))
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        warnings.simplefilter("default")
        sys.stderr = file  # tqdm writes here
        try:
            with gpu_slot() if gpus else nullcontext():
                if threads is not None:
                    import torch

                    torch.set_num_threads(threads)
                yield logging.getLogger("relmap")
        except InputError as error:
            _fail(f"error: {error}\n", file, terminal)
        except Exception:
            _fail(traceback.format_exc(), file, terminal)
        finally:
            sys.stderr = terminal
            logging.captureWarnings(False)
            root.removeHandler(handler)


def _fail(message: str, *streams) -> None:
    for stream in streams:
        stream.write(message)
        stream.flush()
    raise SystemExit(1)
