#!/usr/bin/env python3
"""Train or evaluate a detector: detectron2's command line, with either engine.

python tools/train_net.py --config-file configs/demo/sar_retinanet.yaml [--resume | --eval-only]
    [--engine auto|detectron2|torchvision] [--num-gpus N] [KEY VALUE ...]
"""

from dynbackbones.integrations import launch

if __name__ == "__main__":
    launch.run(launch.main)
