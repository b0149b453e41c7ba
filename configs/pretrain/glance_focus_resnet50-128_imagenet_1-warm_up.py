# Glance and Focus with ResNet-50, crops of 128, first stage: encoders and head, crops anywhere.
_base_ = "_base_/recipes/glance_focus_imagenet.py"
# glance_weights: the same network trained at the size of a crop, as the authors have it.
model = dict(
    stage="warm_up",
    classifier=dict(patch=128, steps=5),
    local_weights="torchvision://resnet50",
)
