"""Run the fuzz targets under atheris, which is led by the code that an input reaches (`make fuzz`).

Each target runs in a process of its own, which libFuzzer ends at the first finding: an exception
that is no `UnrolledError`, an answer after more than 5 s, or 1 GB of memory. The seeds are made on
the spot. A line says what came out; a finding is kept in ``build/fuzz``.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(Path(__file__).parent)]
BUILD = ROOT / "build/fuzz"
MEMORY_MB, ANSWER_S = 1024, 5
INSTALL = (
    "fuzzing needs atheris, which has wheels for Python 3.11 to 3.13 on Linux; install it: "
    f"{sys.executable} -m pip install atheris==3.0.0"
)


def fuzz(name: str, options: list[str]) -> None:
    """Run a target in this process, which libFuzzer ends."""
    import atheris

    with redirect_stderr(StringIO()), atheris.instrument_imports(include=["unrolled"]):
        from targets import TARGETS
    target = TARGETS[name]
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
        target(seed)  # what is imported or made at first use costs no input its 5 s
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: target(bytes(data)))
    atheris.Fuzz()


def repeat(file: Path) -> None:
    """Give a target one input again, which shows its traceback."""
    from targets import TARGETS

    TARGETS[file.name.partition("-")[0]](file.read_bytes())
    print(f"{file}: answered")


def watched(name: str, minutes: float) -> bool:
    """Run a target in another process and say in a line what came out."""
    options = [
        f"-max_total_time={round(60 * minutes)}", f"-timeout={ANSWER_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={BUILD}/{name}-",
        "-max_len=65536", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    log = BUILD / f"{name}.log"
    with log.open("w") as output:
        ended = subprocess.run(
            [sys.executable, __file__, "--inside", name, *options],
            stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    text = log.read_text(errors="replace")
    last = re.findall(r"^#\d+\s+\S+\s+cov: (\d+)", text, re.MULTILINE)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", text))
    kept = re.findall(r"Test unit written to (\S+)", text)
    result = "no finding" if ended.returncode == 0 else f"FINDING, see {log.relative_to(ROOT)}"
    if kept:
        result += f"; again: {sys.executable} tests/fuzz/run_fuzzers.py --again {kept[-1]}"
    with PRINTING:
        print(
            f"{name:<18}{int(stats.get('number_of_executed_units', 0)):>12,} executions"
            f"{int(last[-1]) if last else 0:>8,} edges{stats.get('peak_rss_mb', '?'):>7} MB  "
            f"{result}",
            flush=True,
        )
    return ended.returncode == 0


PRINTING = threading.Lock()


def main() -> int:
    """Run the command; 1 if anything was found."""
    parser = argparse.ArgumentParser(description="fuzz everything that parses a file")
    parser.add_argument("--minutes", type=float, default=5, help="for each target")
    parser.add_argument("--only", action="append", metavar="NAME", help="a target; repeatable")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--again", type=Path, metavar="FILE", help="a finding, once more")
    parser.add_argument("--list", action="store_true", help="the targets")
    arguments = parser.parse_args()
    if arguments.again:
        repeat(arguments.again)
        return 0
    from targets import TARGETS

    unknown = [name for name in arguments.only or () if name not in TARGETS]
    if arguments.list or unknown:
        print(f"unknown: {', '.join(unknown)}; there are:" if unknown else "targets:", *TARGETS)
        return int(bool(unknown))
    if importlib.util.find_spec("atheris") is None:
        print(INSTALL, file=sys.stderr)
        return 2
    BUILD.mkdir(parents=True, exist_ok=True)
    names = arguments.only or list(TARGETS)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        fine = list(pool.map(lambda name: watched(name, arguments.minutes), names))
    return int(not all(fine))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
