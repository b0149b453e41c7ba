"""Which frames of a video are looked at: LiteEval and AdaFrame beside fixed choices."""
