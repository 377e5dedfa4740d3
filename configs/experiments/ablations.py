r"""What moves the class activation map: its cells, pooling, the loss's weights.

Epsilon is the sweep of phantom.py; the warp of augmentation has a script of its
own (tests/benchmarks/bench_warp.py), and so has what the drawing of the same
cells does (tests/benchmarks/bench_cam.py).

Question: how much of the CAM's localization is the resolution of its grid, how
          much the way its cells become a logit, and how much the weighting of
          rare findings? Three training seeds each, on the phantom of seed 1.
Command:  A=configs/experiments/ablations.py
          for seed in 0 1 2; do for group in baseline robust; do
            for change in cells16 cells32 unweighted lse top; do
              python main.py --config=$A:${change}_$group --config.seed=$seed \
                --workdir=runs/study/${change}_${group}_$seed
            done
          done; done
          and, with the runs of phantom.py,
          S=runs/study; for pair in \
            phantom_baseline,lse_baseline phantom_baseline,top_baseline \
            phantom_robust_2,lse_robust lse_baseline,lse_robust; do
            python main.py --mode=study --output=$S/${pair/,/_} \
              --workdirs="$S/${pair/,*/}_[0-2],$S/${pair/*,/}_[0-2]"
          done
          for group in baseline robust_2; do
            python main.py --mode=evaluate \
              --workdir=runs/study/phantom_${group}_0 \
              --config.evaluate.methods="('cam','dense_cam')" \
              --config.evaluate.measures=() \
              --output=runs/study/dense_$group
          done
          (that is ablations.py:cells16_baseline, .py:cells16_robust,
          .py:cells32_baseline, .py:cells32_robust, .py:unweighted_baseline,
          .py:unweighted_robust, .py:lse_baseline, .py:lse_robust,
          .py:top_baseline, .py:top_robust)
Cost:     3 minutes for a baseline and 5 for a robust run, on one core.
Result:   docs/results_phantom.md. Log-sum-exp pooling gives the baseline's CAM
          +.236 (+.173 to +.300) beyond another patient's at T(IoU) .3, its
          gradient map +.389 (+.319 to +.458), AUROC +.011 (+.003 to +.020);
          top cells +.188, +.207, +.010. Robust training adds nothing to it: CAM
          -.066 (-.312 to +.179), gradient map +.013 (-.161 to +.187).
          dense_cam, cells16 and the unweighted baseline were run with seed 0
          alone, top_robust, cells32 and unweighted_robust not at all.
"""

from configs import experiments
from configs.experiments import phantom

# Fields of config.model and config.loss, by change.
CHANGES = {
  'cells16': {'model.output_stride': 16},
  # The third stage cannot reach 32.
  'cells32': {'model.output_stride': 32, 'model.num_stages': 4},
  'unweighted': {'loss.weighting': 'none'},
  'lse': {'model.pooling': 'lse'},
  'top': {'model.pooling': 'top'},
}
VARIANTS = tuple(
  f'{change}_{group}' for change in CHANGES for group in phantom.VARIANTS
)


def get_config(variant: str = 'lse_robust'):
  make = lambda preset: phantom.get_config(variant.rpartition('_')[2])
  config = experiments.make(dict.fromkeys(VARIANTS, make), variant, 'phantom')
  config.update_from_flattened_dict(CHANGES[variant.partition('_')[0]])
  # Of attacks and measures only what tells that a training went well.
  config.evaluate.epsilons = (2.0,)
  config.evaluate.attack_films = 64
  config.evaluate.finding_attack_films = 0
  config.evaluate.measures = ('causes',)
  return config
