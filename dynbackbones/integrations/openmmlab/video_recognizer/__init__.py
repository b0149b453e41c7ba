"""Training AdaFrame and LiteEval with mmengine alone, on features of videos in files.

custom_imports = dict(imports=["dynbackbones.integrations.openmmlab.video_recognizer"])

recognizer   VideoRecognizer, the model
features     VideoFeatures, the dataset; pad_videos, what makes batches of it
needle       NeedleFeatures, of the demo's videos
metric       VideoMetric: accuracy, and how many frames were looked at
"""

from dynbackbones.integrations.openmmlab.video_recognizer.features import (
    VideoFeatures as VideoFeatures,
)
from dynbackbones.integrations.openmmlab.video_recognizer.features import pad_videos as pad_videos
from dynbackbones.integrations.openmmlab.video_recognizer.metric import VideoMetric as VideoMetric
from dynbackbones.integrations.openmmlab.video_recognizer.needle import (
    NeedleFeatures as NeedleFeatures,
)
from dynbackbones.integrations.openmmlab.video_recognizer.recognizer import (
    VideoRecognizer as VideoRecognizer,
)
