# The generator where VGG-19's weights are missing: few layers, so that little is lost and the
# training is short.
small_vgg = dict(encoder="small_vgg", channels=(16, 32, 64, 192), convolutions=(1, 1, 1, 1))
