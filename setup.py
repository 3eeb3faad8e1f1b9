"""What pyproject.toml cannot say: the cffi extension and the tag of its wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Rebuilds the extension when a header changes."""

    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions:
            extension.depends += map(str, Path("csrc").glob("*.h"))


setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
