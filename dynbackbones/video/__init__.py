"""Video: which frames a model runs on, and what is shown in between."""

from dynbackbones.video.adaframe import AdaFrame as AdaFrame
from dynbackbones.video.adaframe_run import AdaFrameAnswer as AdaFrameAnswer
from dynbackbones.video.adaframe_run import AdaFrameRun as AdaFrameRun
from dynbackbones.video.agreement import Agreement as Agreement
from dynbackbones.video.decisions import FrameDecision as FrameDecision
from dynbackbones.video.encoder import FrameEncoder as FrameEncoder
from dynbackbones.video.frames import Frame as Frame
from dynbackbones.video.frames import frames as frames
from dynbackbones.video.liteeval import LiteEval as LiteEval
from dynbackbones.video.liteeval_run import LiteEvalRun as LiteEvalRun
from dynbackbones.video.liteeval_run import LiteEvalState as LiteEvalState
from dynbackbones.video.sampling import frame_exit_indices as frame_exit_indices
from dynbackbones.video.sampling import random_indices as random_indices
from dynbackbones.video.sampling import uniform_indices as uniform_indices
from dynbackbones.video.schedules import Difference as Difference
from dynbackbones.video.schedules import Every as Every
from dynbackbones.video.schedules import Keys as Keys
from dynbackbones.video.schedules import Random as Random
from dynbackbones.video.stopping import Lookahead as Lookahead
from dynbackbones.video.stopping import confident_steps as confident_steps
from dynbackbones.video.stopping import lookahead_steps as lookahead_steps
from dynbackbones.video.stream import Stream as Stream
