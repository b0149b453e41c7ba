"""Packaging of dynbackbones; `pip install -e ".[dev]"` is what the Makefile runs."""

from pathlib import Path

from setuptools import find_packages, setup

# onedl-mmengine imports cv2 without declaring it.
MMENGINE = ["onedl-mmengine", "opencv-python-headless"]
OPENMMLAB = [*MMENGINE, "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmpretrain", "tensorboard"]
DETECTION = [*MMENGINE, "pycocotools", "tensorboard", "pillow"]
DEMO = [*DETECTION, "scikit-learn", "matplotlib"]
# The tests run both engines on the demo dataset, so they need what the demo needs.
DEV = [*DEMO, *OPENMMLAB, "pytest>=7", "hypothesis", "ruff"]

setup(
    name="dynbackbones",
    version="0.1.0",
    description="Dynamic backbones for dense prediction: detectron2, OpenMMLab, torchvision",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["dynbackbones", "dynbackbones.*"]),
    # Before torch 2.6, torch.load(weights_only=True) could be made to run code (CVE-2025-32434).
    install_requires=["torch>=2.6", "torchvision", "numpy", "fvcore"],
    extras_require={
        "openmmlab": OPENMMLAB,
        "detection": DETECTION,
        "demo": DEMO,
        "dev": DEV,
        "all": sorted({*DEMO, *DEV}),
    },
    entry_points={"console_scripts": ["dynbackbones = dynbackbones.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
