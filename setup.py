"""Builds the native CPU kernels; everything else about the package stands in pyproject.toml.

They are optional: without a C++ compiler the package installs all the same, and computes with
its frameworks alone. The library is plain C for its callers and knows nothing of Python, so
one file serves every Python. `kernels.cpp` is compiled once for each instruction set and
precision, on all cores; which instructions run is decided on the user's machine.
"""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = Path("src/unrolled/native")
FLAGS = ["-std=c++17", "-O3", "-g0", "-DNDEBUG", "-fPIC", "-ffp-contract=fast", "-Wno-psabi"]


def instruction_sets():
    """Those of this machine: name, precisions, flags."""
    everywhere, x86_64 = (SOURCES / "instruction_sets.txt").read_text().split("# x86_64\n")
    lines = everywhere + (x86_64 if platform.machine() in ("x86_64", "AMD64") else "")
    for name, *rest in (line.split() for line in lines.splitlines() if line[0] != "#"):
        precisions = [word for word in rest if word[0] != "-"]
        yield name, precisions, rest[len(precisions) :]


class BuildNative(build_ext):
    """Compiles each source with flags of its own; an instruction set too new is left out."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + ".so"  # the same for every Python

    def build_extension(self, ext):
        def compile(source, folder, *flags):
            return self.compiler.compile(
                [str(SOURCES / source)],
                output_dir=str(Path(self.build_temp) / folder),
                extra_postargs=[*FLAGS, *flags],
                depends=ext.depends,
            )

        began, cores = time.monotonic(), os.cpu_count() or 1
        print(f"compiling native kernels on {cores} cores: {40 // cores + 1} s or more", flush=True)
        with ThreadPoolExecutor(cores) as pool:
            units = {
                name: [
                    pool.submit(
                        compile, "kernels.cpp", f"{name}-{precision}",
                        f"-DINSTRUCTIONS={name}", f"-DPRECISION={precision}", *flags,
                    )
                    for precision in precisions
                ]
                for name, precisions, flags in instruction_sets()
            }  # fmt: skip
            objects, present = compile("threads.cpp", "common") + compile("xla.cpp", "common"), []
            for name, compiled in units.items():
                try:
                    objects += [path for unit in compiled for path in unit.result()]
                    present.append(f"-DHAS_{name}")
                except CompileError:
                    if name == "portable":
                        raise
                    self.warn(f"this compiler knows no {name}: left out")
        objects += compile("interface.cpp", "common", *present)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, str(target), libraries=["pthread", "dl"], target_lang="c++"
        )
        print(f"compiled native kernels in {time.monotonic() - began:.0f} s", flush=True)


setup(
    ext_modules=[
        Extension(
            "unrolled.native.libunrolled",
            sources=[str(path) for path in sorted(SOURCES.glob("*.cpp"))],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
