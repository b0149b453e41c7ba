"""What runs on mmengine's Runner share: the torchvision engine and OpenMMLab's libraries."""
