"""Packaging of dynbackbones; `pip install -e ".[dev]"` is what the Makefile runs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "dynbackbones" / "__init__.py").read_text(encoding="utf-8")

# onedl-mmengine imports cv2 without declaring it.
MMENGINE = ["onedl-mmengine", "opencv-python-headless"]
OPENMMLAB = [*MMENGINE, "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmpretrain", "tensorboard"]
DETECTION = [*MMENGINE, "pycocotools", "tensorboard", "pillow"]
DEMO = [*DETECTION, "scikit-learn", "matplotlib"]
EXPORT = ["onnx>=1.15", "onnxruntime>=1.17"]
# What else could run a plain network, for the benchmark alone.
OPPONENTS = [*EXPORT, "openvino", "nncf"]
# To build the C++ extension for CPUs, which a C++ compiler must be there for.
NATIVE = ["ninja"]
TESTING = ["pytest>=7", "pytest-xdist", "hypothesis", "safetensors", "ruff"]
# The tests run both engines on the demo dataset, so they need what the demo needs.
DEV = [*DEMO, *OPENMMLAB, *EXPORT, *NATIVE, *TESTING]

setup(
    name="dynbackbones",
    version=re.search('^__version__ = "(.+)"$', INIT, re.MULTILINE)[1],
    description="Dynamic backbones for dense prediction: detectron2, OpenMMLab, torchvision",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # Configs and documents lie beside the package in a checkout, and inside it once installed.
    packages=[
        *find_packages(include=["dynbackbones", "dynbackbones.*"]),
        "dynbackbones.configs",
        "dynbackbones.docs",
    ],
    package_dir={"dynbackbones.configs": "configs", "dynbackbones.docs": "docs"},
    package_data={
        "dynbackbones": ["py.typed", "layers/rows.cpp"],
        "dynbackbones.configs": ["**/*.yaml", "**/*.py", "**/*.md"],
        "dynbackbones.docs": ["**/*.md", "**/*.png"],
    },
    # Before torch 2.6, torch.load(weights_only=True) could be made to run code (CVE-2025-32434).
    install_requires=["torch>=2.6", "torchvision", "numpy", "fvcore"],
    extras_require={
        "openmmlab": OPENMMLAB,
        "detection": DETECTION,
        "demo": DEMO,
        "export": EXPORT,
        "native": NATIVE,
        "opponents": OPPONENTS,
        "dev": DEV,
        "all": sorted({*DEMO, *DEV}),
    },
    entry_points={"console_scripts": ["dynbackbones = dynbackbones.cli.main:main"]},
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    keywords="detection segmentation dynamic-networks efficient-inference detectron2 openmmlab",
)
