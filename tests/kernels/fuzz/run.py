"""Build the fuzzer of the native kernels with sanitizers, and run it (`make sanitize`).

Every instruction set of this processor with AddressSanitizer and UndefinedBehaviorSanitizer, also
one of AVX-512's shapes in AVX2's instructions ("wide"); once with ThreadSanitizer; and for ARM
under QEMU. What cannot be had is named. The first finding ends everything.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[3]
NATIVE, FUZZ, BUILD = (
    ROOT / part for part in ("src/unrolled/native", "tests/kernels/fuzz", "build/sanitize")
)
COMMON = [
    "-std=c++17",
    "-O1",
    "-g",
    "-ffp-contract=fast",
    "-Wno-psabi",
    "-fno-sanitize-recover=all",
]
ADDRESSES = "-fsanitize=address,undefined"
ARM, ARM_LIBRARIES = "aarch64-linux-gnu-g++", "/usr/aarch64-linux-gnu"
QEMU = "qemu-aarch64-static" if shutil.which("qemu-aarch64-static") else "qemu-aarch64"
CORES = os.cpu_count() or 1
RUNNING: list[subprocess.Popen[str]] = []


def instruction_sets():
    """Flags by instruction set and precision, see `setup.py`."""
    for line in (NATIVE / "instruction_sets.txt").read_text().splitlines():
        name, *rest = line.split()
        if name != "#":
            yield name, [w for w in rest if w[0] != "-"], [w for w in rest if w[0] == "-"]


def of_this_processor(flags):
    """Whether it has the instructions that the compiler would use."""
    wanted = {flag.removeprefix("-m") for flag in flags if "=" not in flag}
    info = Path("/proc/cpuinfo")
    has = info.read_text().replace("avx512_bf16", "avx512bf16").split() if info.exists() else []
    return wanted <= {*has}


class Fuzzer:
    """A program made of the kernels for some instruction sets and the driver.

    Args:
        name: of its folder.
        sanitizers: flags.
        sets: instruction set, precisions, flags.
        compiler, emulator: commands.
    """

    def __init__(self, name, sanitizers, sets, compiler=("g++",), emulator=()):
        self.folder, self.emulator = BUILD / name, emulator
        self.program, self.units = self.folder / "fuzz", []
        for set_, precisions, flags in sets:
            for precision in precisions:
                kind = [f"-DINSTRUCTIONS={set_}", f"-DPRECISION={precision}", *flags]
                self.units.append((NATIVE / "kernels.cpp", f"{set_}-{precision}", kind))
        have = [f"-DHAS_{set_}" for set_, _, _ in sets]
        self.units += [
            (NATIVE / f"{unit}.cpp", unit, have) for unit in ("threads", "interface", "xla")
        ]
        self.units.append((FUZZ / "fuzz.cpp", "driver", ["-O2"]))
        self.compiler = [*compiler, *COMMON, *sanitizers]

    def compile(self, source, name, flags):
        made = self.folder / f"{name}.o"
        sources = [*NATIVE.glob("*.h"), source, *(FUZZ.glob("*.h") if name == "driver" else ())]
        if not made.exists() or made.stat().st_mtime < max(s.stat().st_mtime for s in sources):
            made.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([*self.compiler, *flags, "-c", source, "-o", made], check=True)

    def link(self):
        objects = [self.folder / f"{name}.o" for _, name, _ in self.units]
        subprocess.run(
            [*self.compiler, *objects, "-o", self.program, "-lpthread", "-ldl"], check=True
        )

    def run(self, label, set_, seed, seconds):
        """The program's last line, or the end of everything."""
        command = [*self.emulator, self.program, set_, str(seed), str(seconds)]
        program = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        RUNNING.append(program)
        said, _ = program.communicate()
        print(f"{label}: {said.strip()}, {seconds} seconds, seed {seed}", flush=True)
        if program.returncode:
            print(f"{label} FAILED, exit status {program.returncode}", flush=True)
            for other in RUNNING:
                other.kill()
            os._exit(1)


def fuzzers():
    """Programs, each with its label and instruction set; and a line about all that is left out."""
    sets = [s for s in instruction_sets() if s[0] == "portable" or platform.machine() == "x86_64"]
    here, by_name = [s for s in sets if of_this_processor(s[2])], {s[0]: s for s in sets}
    addresses = Fuzzer("addresses", [ADDRESSES], here)
    runs = [(f"{s[0]}, addresses and undefined behaviour", addresses, s[0]) for s in here]
    left = [f"{s[0]}: not on this processor, not run" for s in sets if s not in here]
    portable, avx2 = by_name["portable"], by_name.get("avx2")
    if avx2 in here:
        wide = ("portable", portable[1], [*avx2[2], "-DUNROLLED_WIDE"])
        runs.append(("AVX-512's shapes in AVX2, addresses and undefined behaviour",
                     Fuzzer("wide", [ADDRESSES], [wide]), "portable"))  # fmt: skip
    threads = Fuzzer("threads", ["-fsanitize=thread"], [portable])
    runs.append(("portable, threads", threads, "portable"))
    if platform.machine() != "aarch64":
        missing = [tool for tool in (ARM, QEMU) if not shutil.which(tool)]
        if missing:
            left.append(f"aarch64: no {' and no '.join(missing)} here, not run")
        else:
            arm = Fuzzer(
                "aarch64", ["-fsanitize=undefined"], [portable], [ARM], [QEMU, "-L", ARM_LIBRARIES]
            )
            runs.append(("aarch64 under QEMU, undefined behaviour", arm, "portable"))
    return runs, left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of running, without building")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10**6)
    parser.add_argument("--only", default="", help="part of a label")
    arguments = parser.parse_args()
    runs, left = fuzzers()
    print(*left, sep="\n", flush=True)
    runs = [run for run in runs if arguments.only in run[0]]
    if not runs:
        sys.exit(f"no program here has '{arguments.only}' in its label")
    programs, began = {fuzzer for _, fuzzer, _ in runs}, time.monotonic()
    print("building ...", flush=True)
    with ThreadPoolExecutor(CORES) as pool:
        units = [
            pool.submit(program.compile, *unit) for program in programs for unit in program.units
        ]
        for unit in units:
            unit.result()
        list(pool.map(Fuzzer.link, programs))
        side_by_side = min(CORES, len(runs))
        seconds = int(60 * arguments.minutes * side_by_side / len(runs))
        print(
            f"built in {time.monotonic() - began:.0f} seconds; running {seconds} each", flush=True
        )
    with ThreadPoolExecutor(side_by_side) as pool:
        for run in [
            pool.submit(f.run, label, set_, arguments.seed, seconds) for label, f, set_ in runs
        ]:
            run.result()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed: {error.returncode}")
