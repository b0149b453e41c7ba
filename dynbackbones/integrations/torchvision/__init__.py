"""The torchvision engine: its detectors, trained with mmengine from detectron2's YAML.

config       reads the YAML (schema: the keys and their defaults)
detectors    RetinaNet and Faster R-CNN with FPN on this package's backbones (heads, weights)
data         COCO-format images and boxes (sampling: which images an iteration sees)
engine       training and evaluation (solver, evaluation, final_weights)
predictor    a trained detector on one image
"""
