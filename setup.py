"""Neural architecture search for PyTorch under NNI 3.0."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
EXTRAS = {
    "plots": ["matplotlib"],
    "sparse": ["llvmlite>=0.44"],  # compiles the product of sparse weights, without a compiler
    "onnx": ["onnx", "onnxruntime", "onnxscript"],
}

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
        "dev": [
            *("ruff", "mypy", "pytest", "pytest-xdist", "hypothesis", "types-PyYAML", "types-psutil"),
            *(package for extra in EXTRAS.values() for package in extra),
        ],
    },
    entry_points={"console_scripts": ["nas=nas_tuners.cli:main"]},
)
