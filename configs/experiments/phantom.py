r"""Baseline against robust where the causes are known, five seeds of each.

Question: does the baseline lean on the phantom's shortcut (a grating of 3/255
          beside each finding's lesion), does robust training let go of it, and
          at which epsilon do gradient map and CAM show the lesion better?
Command:  for seed in 0 1 2 3 4; do
            python main.py --config=configs/experiments/phantom.py:baseline \
              --config.seed=$seed --workdir=runs/study/phantom_baseline_$seed
            for epsilon in 0.5 1 2 4; do
              python main.py --config=configs/experiments/phantom.py:robust \
                --config.seed=$seed --config.attack.epsilon=$epsilon \
                --workdir=runs/study/phantom_robust_${epsilon}_$seed
            done
          done
          python main.py --mode=study --workdirs='runs/study/phantom_*_[0-4]' \
            --output=runs/study/phantom
          python main.py --mode=compare --workdirs=\
          runs/study/phantom_baseline_0,runs/study/phantom_robust_2_0
Cost:     4 minutes of processor time for a baseline and 6 for a robust run, a
          third of it evaluation; 2.1 GB.
Result:   docs/results_phantom.md. Own less another patient's at T(IoU) .3,
          minus the baseline, at epsilon .5, 1, 2, 4: gradient map +.079, +.152,
          +.182, +.221; CAM +.052 (+.004 to +.100), +.053 (+.011 to +.095),
          +.019 (-.022 to +.060), -.031 (-.074 to +.012). AUROC .956 of the
          baseline, then .947, .935, .915, .880; without the shortcut .883, then
          .915, .921, .911, .879; logits lost with it 2.39, then 1.05, .39, .07,
          .01.
"""

from configs import baseline, experiments, robust

VARIANTS = {'baseline': baseline.get_config, 'robust': robust.get_config}


def get_config(variant: str = 'robust'):
  config = experiments.make(VARIANTS, variant, 'phantom')
  # The defaults were chosen on the phantom of seed 0.
  config.data.phantom.seed = 1
  config.evaluate.epsilons = (2.0, 4.0)
  config.evaluate.finding_attack_films = 36
  config.evaluate.measures = ('alignment', 'causes')
  config.evaluate.check_films = 0
  return config
