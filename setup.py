"""Neural architecture search for PyTorch under NNI 3.0."""

import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
EXTRAS = {
    "plots": ["matplotlib"],
    "sparse": ["llvmlite>=0.44"],  # compiles the product of sparse weights, without a compiler
    "slurm": [],  # its own commands are all that nas run --on slurm needs
    "onnx": ["onnx", "onnxruntime", "onnxscript"],
    "optuna": ["optuna>=5"],  # studies that our searches drive
}
HOSTS = {"ray": ["ray[tune]>=2.52"]}  # large: tests that need one are skipped without it


class SourceDistribution(sdist):
    """Pack all that a clone holds, so that examples, tests and make work from the archive as well."""

    def make_distribution(self) -> None:
        """Write the archive; setuptools by itself takes little but the packages."""
        self.filelist.extend(list_sources())
        self.filelist.remove_duplicates()
        super().make_distribution()


def list_sources() -> list[str]:
    """Return the files of a clone, as git knows them, or of an unpacked archive, which holds nothing else."""
    if (HERE / ".git").exists():
        return subprocess.check_output(["git", "ls-files"], cwd=HERE, text=True).splitlines()
    names = (path.relative_to(HERE) for path in HERE.rglob("*") if path.is_file())
    made = ("__pycache__", ".venv", "build", "dist")
    kept = (name for name in names if not any(part in made or part.endswith(".egg-info") for part in name.parts))
    return [str(name) for name in kept if not name.match("*.pyc") and name.parts[0] != "runs"]


setup(
    name="nas-tuners",
    version="0.1.0",
    description="Neural architecture search for PyTorch under NNI 3.0: search spaces, mutators, tuners",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["search_spaces*", "mutators*", "nas_tuners*"]),
    package_data={"": ["py.typed", "README.md", "*.pyi"]},
    install_requires=[
        "torch>=2.13",
        "numpy",
        "scipy",
        "json5",
        "nni==3.0",  # and with it psutil, PyYAML, scikit-learn and tqdm, which we use as well
        "setuptools<81",  # nnictl imports pkg_resources, which later releases no longer have
    ],
    extras_require={
        **EXTRAS,
        **HOSTS,
        "dev": [
            *("ruff", "mypy", "pytest", "pytest-xdist", "hypothesis", "types-PyYAML", "types-psutil"),
            *(package for extra in EXTRAS.values() for package in extra),
        ],
    },
    cmdclass={"sdist": SourceDistribution},
    entry_points={"console_scripts": ["nas=nas_tuners.cli:main"]},
)
