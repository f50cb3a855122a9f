"""Builds the native CPU kernels; everything else about the package stands in pyproject.toml.

They are optional: without a C++ compiler the package installs all the same, and computes with
its frameworks alone. The library is plain C for its callers and knows nothing of Python, so
one file serves every Python. `kernels.cpp` is compiled once for each instruction set; which
of them runs is decided on the user's machine.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = Path("src/unrolled/kernels/native")
FLAGS = ["-std=c++17", "-O3", "-g0", "-fPIC", "-ffp-contract=fast", "-Wno-psabi"]
INSTRUCTIONS = {"portable": []}
if platform.machine() in ("x86_64", "AMD64"):
    avx2 = ["-mavx2", "-mfma"]
    avx512 = [*avx2, "-mavx512f", "-mprefer-vector-width=512"]
    INSTRUCTIONS |= {"avx2": avx2, "avx512": avx512}
    INSTRUCTIONS["avx512_bf16"] = [*avx512, "-mavx512bf16", "-mavx512bw", "-mavx512vl"]


class BuildNative(build_ext):
    """Compiles each source with flags of its own; an instruction set too new is left out."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + ".so"  # the same for every Python

    def build_extension(self, ext):
        def compile(source, folder, flags):
            return self.compiler.compile(
                [str(SOURCES / source)],
                output_dir=str(Path(self.build_temp) / folder),
                extra_postargs=[*FLAGS, *flags],
                depends=ext.depends,
            )

        objects, present = compile("threads.cpp", "common", []), []
        for name, flags in INSTRUCTIONS.items():
            try:
                objects += compile("kernels.cpp", name, [f"-DINSTRUCTIONS={name}", *flags])
                present.append(f"-DHAS_{name}")
            except CompileError:
                if name == "portable":
                    raise
                self.warn(f"this compiler knows no {name}: left out")
        objects += compile("interface.cpp", "common", present)
        objects += compile("xla.cpp", "common", [])
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, str(target), libraries=["pthread", "dl"], target_lang="c++"
        )


setup(
    ext_modules=[
        Extension(
            "unrolled.kernels.native.libunrolled",
            sources=[str(path) for path in sorted(SOURCES.glob("*.cpp"))],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
