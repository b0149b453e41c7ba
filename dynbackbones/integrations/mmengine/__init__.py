"""What runs on mmengine's Runner share: the torchvision engine and OpenMMLab's libraries.

schedules        ScheduleHook moves the backbones' schedules
decision_log     DecisionLogHook logs what they choose in training
decision_meter   DecisionMeterHook adds what they spend to the metrics of an evaluation
per_image        PerImageHook writes how images differ in what they are given
resume           RandomStateHook, exact resume (random_states; seeded_data: samples with seeds)
checked_runner   CheckedRunner (checked_data: not empty, whole files; label_maps)
run_config       what a run was configured as, so that another one does not continue it
start            where a training starts: anew, or from a checkpoint (last_checkpoint)
total_batch      divides a config's batch among processes
whole_checkpoints  WholeCheckpointHook writes checkpoints whole, and only then removes older ones
divergence       DivergenceHook stops at the first loss that is not finite
training         trains, and ends well when a signal, a full disk or a dead loader ends it
results          ResultsHook writes the metrics of the last evaluation
console          ConsoleHook prints what a person reads of a run, QuietRunner nothing else
hook_group       several hooks under one name
runner           the model inside a runner
"""
