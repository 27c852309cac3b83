"""Neural architecture search for PyTorch under NNI 3.0."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="nas-tuners",
    version="0.1.0",
    description="Neural architecture search for PyTorch under NNI 3.0: search spaces, mutators, tuners",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["search_spaces*", "mutators*", "nas_tuners*"]),
    package_data={"search_spaces": ["py.typed"], "mutators": ["py.typed"], "nas_tuners": ["py.typed"]},
    install_requires=[
        "torch>=2.6",
        "numpy",
        "json5",
        "nni==3.0",  # and with it psutil, PyYAML and tqdm, which the commands and the training use
        "setuptools<81",  # nnictl imports pkg_resources, which later releases no longer have
    ],
    extras_require={
        "plots": ["matplotlib"],
        "dev": ["ruff", "mypy", "pytest", "hypothesis", "types-PyYAML", "types-psutil", "matplotlib"],
    },
    entry_points={"console_scripts": ["nas=nas_tuners.cli:main"]},
)
