"""Video: which frames a model runs on, and what is shown in between."""

from dynbackbones.video.agreement import Agreement as Agreement
from dynbackbones.video.decisions import FrameDecision as FrameDecision
from dynbackbones.video.frames import Frame as Frame
from dynbackbones.video.frames import frames as frames
from dynbackbones.video.schedules import Difference as Difference
from dynbackbones.video.schedules import Every as Every
from dynbackbones.video.schedules import Keys as Keys
from dynbackbones.video.schedules import Random as Random
from dynbackbones.video.stream import Stream as Stream
