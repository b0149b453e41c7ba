# The segmentor of semantic_fpn.py on the frames of a clip, which shows digit samples that it was
# not trained on:
#   dynbackbones test configs/demo/video_semantic_fpn.py work_dirs/semantic_fpn/iter_1000.pth
_base_ = "semantic_fpn.py"
test_dataloader = dict(dataset=dict(type="DigitVideosDataset", split="bursts"))
