# What all segmentors share: torchvision's pixel statistics, and whole images in evaluation.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    decode_head=dict(align_corners=False),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
