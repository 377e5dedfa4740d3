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
          and, with the runs of phantom.py, what a change moves in each group,
          and what robust training does with the change:
          S=runs/study; for change in cells16 cells32 unweighted lse top; do
            for pair in phantom_baseline,${change}_baseline \
              phantom_robust_2,${change}_robust \
              ${change}_baseline,${change}_robust; do
              python main.py --mode=study --output=$S/${pair/,/_} \
                --workdirs="$S/${pair/,*/}_[0-2],$S/${pair/*,/}_[0-2]"
            done
          done
          for run in phantom_{baseline,robust_2}_{0,1,2}; do
            python main.py --mode=evaluate --workdir=runs/study/$run \
              --config.evaluate.methods="('cam','dense_cam')" \
              --config.evaluate.measures="()" \
              --config.evaluate.epsilons="(2.0,)" \
              --config.evaluate.finding_attack_films=0 \
              --output=runs/study/dense_$run
          done
          (that is ablations.py:cells16_baseline, .py:cells16_robust,
          .py:cells32_baseline, .py:cells32_robust, .py:unweighted_baseline,
          .py:unweighted_robust, .py:lse_baseline, .py:lse_robust,
          .py:top_baseline, .py:top_robust)
Cost:     4 to 5 minutes for a baseline and 5 to 7 for a robust run, a study
          under a minute, on one core.
Result:   docs/results_phantom.md. Log-sum-exp pooling gives the baseline's CAM
          +.236 (+.173 to +.300) beyond another patient's at T(IoU) .3, its
          gradient map +.389 (+.319 to +.458), AUROC +.011 (+.003 to +.020);
          top cells +.188, +.207, +.010. Robust training adds +.013 (-.161 to
          +.187) to the gradient map with the one, +.152 (+.060 to +.244) with
          the other; to the CAM -.066 (-.312 to +.179), +.030 (-.003 to +.063).
          Cells of 32 pixels and unweighted losses halve the baseline's CAM
          (-.127, -.196 to -.059; -.114, -.182 to -.045), cells of 16 do not
          (+.011, -.059 to +.082).
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
