# AdaFrame on needle videos: three frames of 60, in about ten minutes of a CPU core.
_base_ = ["_base_/runtime.py", "_base_/needle.py", "_base_/schedule.py"]
model = dict(
    type="VideoRecognizer",
    net=dict(
        type="AdaFrame", frame_channels=64, memory_channels=32, num_classes=10, hidden=64, steps=3
    ),
    frame_macs=dict(coarse=0.47e6, fine=2.95e6),
)
