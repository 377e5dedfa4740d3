r"""What moves the figures: the map's cells, and the loss's weights. The warp of
augmentation has a script of its own, tests/benchmarks/bench_warp.py.

Question: how much of the localization is the resolution of the map, and how
          much the weighting of rare findings? One seed each; epsilon is the
          sweep of phantom.py.
Command:  after those of phantom.py,
          for run in baseline_0 robust_2_0; do
            python main.py --mode=evaluate --workdir=runs/study/phantom_$run \
              --config.evaluate.methods="('cam','dense_cam','gradient')"
          done
          python main.py --mode=study --output=runs/study/cells --workdirs=\
          runs/study/phantom_baseline_0,runs/study/phantom_robust_2_0
          for cells in '3 16' '4 32'; do
            set -- $cells; P=configs/experiments/phantom.py
            python main.py --config=$P:baseline --config.model.num_stages=$1 \
              --config.model.output_stride=$2 \
              --workdir=runs/study/stride$2_baseline_0
            python main.py --config=$P:robust --config.model.num_stages=$1 \
              --config.model.output_stride=$2 --config.attack.epsilon=2 \
              --workdir=runs/study/stride$2_robust_2_0
          done
          and after those of nih_64.py, on the same films,
          C=configs/experiments/ablations.py; D=--config.data.dir=../shared/nih
          python main.py --config=$C:baseline $D \
            --workdir=runs/study/nih64_finding_baseline_0
          python main.py --config=$C:robust $D --config.attack.epsilon=2 \
            --workdir=runs/study/nih64_finding_robust_2_0
          python main.py --mode=study --output=runs/study/weights --workdirs=\
          'runs/study/nih64_*baseline_0,runs/study/nih64_*robust_2_0'
Cost:     2 minutes for an evaluation, 6 and 9 for a run, on one core.
Result:   all readings of CAMs are withdrawn: they were drawn (stride - 1) / 2
          pixels too far down and right, by which most of what finer cells
          seemed to win is explained. What is left, phantom of seed 1 (570 films
          with boxes, 269 patients), one training seed, intervals over patients:
          trained anew at strides of 8, 16 and 32 (the last with four stages, so
          another network), the gradient map's T(IoU) .3 is .176 (.146 to .204),
          .283 (.255 to .312), .403 (.378 to .429) of the baseline and .468
          (.432 to .502), .523 (.488 to .562), .574 (.543 to .606) of the robust
          network (paired: +.292, +.254 to +.330; +.240, +.199 to +.282; +.170,
          +.131 to +.212); AUROC without the shortcut .867, .891, .920 and .912,
          .920, .927: both gain from coarser cells.
          Weights, real films of nih_64.py (665 with boxes, 549 patients),
          training seed 0, run after its estimates had been seen: weighting by
          finding instead of by batch moves no gradient map (.102, .082 to .123,
          and .102, .082 to .124; .199, .176 to .225, and .189, .162 to .216).
"""

from configs.experiments import nih_64

VARIANTS = ('baseline', 'robust')


def get_config(variant: str = 'robust'):
  config = nih_64.get_config(variant)
  config.loss.weighting = 'finding'
  return config
