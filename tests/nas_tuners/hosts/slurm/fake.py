"""Stand in for Slurm: sbatch, squeue and scancel that run jobs as processes of this machine, at once.

What they know of a job is a folder in ``$FAKE_SLURM/jobs``, with its name, process and state; a file ``broken`` beside
them says what a command complains of instead of doing anything, so many times as it has lines.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HOME = Path(os.environ.get("FAKE_SLURM", "."))


def main() -> None:
    """Do what the command does that this file is called by."""
    command = Path(sys.argv[0]).name
    broken = HOME / f"broken-{command}"
    if broken.exists() and (lines := broken.read_text().splitlines()):
        broken.write_text("".join(f"{line}\n" for line in lines[1:]))
        sys.exit(f"{command}: error: {lines[0]}")
    with open(HOME / "calls", "a") as file:
        file.write(f"{command} {' '.join(sys.argv[1:])}\n")
    {"sbatch": submit, "squeue": show, "scancel": cancel}[command](sys.argv[1:])


def submit(words: list[str]) -> None:
    """Start a job."""
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    if options.get("partition") == "gone":
        sys.exit("sbatch: error: invalid partition specified: gone")
    if "test-only" in options:
        return
    number = 1 + len(list((HOME / "jobs").iterdir()))
    job = HOME / "jobs" / str(number)
    job.mkdir()
    (job / "name").write_text(options["job-name"])
    if os.fork():  # the job goes on, whatever becomes of who has submitted it
        print(number)
        return
    for descriptor in range(3):  # whoever has called waits for their ends
        os.close(descriptor)
    os.open(os.devnull, os.O_RDWR)
    os.chdir(options["chdir"])
    with open(options["output"], "wb") as out, open(options["error"], "wb") as err:
        command = ["/bin/bash", *(word for word in words if not word.startswith("--"))]
        environment = {**os.environ, "SLURM_JOB_ID": str(number)}
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, start_new_session=True)
    write(job / "process", str(process.pid))
    if (job / "state").exists():  # it was cancelled before it began
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if not (job / "state").exists():
        write(job / "state", "FAILED" if code else "COMPLETED")


def show(words: list[str]) -> None:
    """Print all jobs."""
    for job in (HOME / "jobs").iterdir():
        state = (job / "state").read_text() if (job / "state").exists() else "RUNNING"
        if state != "FORGOTTEN":
            print(f"{job.name}|{state}|{(job / 'name').read_text()}")


def cancel(words: list[str]) -> None:
    """End jobs, or interrupt them."""
    for number in (word for word in words if not word.startswith("-")):
        job = HOME / "jobs" / number
        if (job / "state").exists():
            continue
        if "--signal=INT" not in words:
            write(job / "state", "CANCELLED")
        with suppress(OSError):
            pid = int((job / "process").read_text())
            os.killpg(pid, signal.SIGINT if "--signal=INT" in words else signal.SIGKILL)


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


if __name__ == "__main__":
    main()
