r"""What moves the figures: the map's cells, and the loss's weights.

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
Result:   cells, phantom of seed 1 (570 films with boxes, 269 patients),
          training seed 0, the same weights: at T(IoU) .3 the CAM's 8x8 cells
          reach .265 (.240 to .291; baseline) and .263 (.233 to .295; robust),
          `dense_cam`'s 16x16 .314 (.289 to .341) and .304 (.275 to .331);
          pointing .380 (.350 to .417) and .428 (.396 to .464), then .466 (.434
          to .501) and .464 (.422 to .510); at 2.0 and 1.8 false boxes a film,
          then 3.8 and 2.7. The grid is what the CAM lacks, for both alike.
          `dense_cam` was thought of after the CAM's figures on these films had
          been seen; it has no setting.
          Trained anew, strides of 8 (8x8 cells), 16 (4x4) and 32 (2x2; four
          stages, so another network), T(IoU) .3, baseline: CAM .240 (.209 to
          .273), .074 (.051 to .097), .078 (.055 to .098); gradient map .176
          (.146 to .204), .283 (.255 to .312), .403 (.378 to .429). Robust: CAM
          .270 (.243 to .297), .082 (.064 to .101), .135 (.111 to .157);
          gradient map .468 (.432 to .502), .523 (.488 to .562), .574 (.543 to
          .606). So a CAM needs fine cells, a gradient map does not: it gains
          from coarser ones, as AUROC does (without the shortcut .867, .891,
          .920; robust .912, .920, .927). Robust training adds to the gradient
          map at every stride (paired: +.292, +.254 to +.330; +.240, +.199 to
          +.282; +.170, +.131 to +.212), to the CAM +.030 (+.002 to +.056),
          +.009 (-.012 to +.028), +.058 (+.041 to +.077). At 16 and 32 the
          baseline's CAM is hardly better there than moved at random (.073,
          .056 to .089, and .059, .044 to .073). One seed of each. The weights
          at a stride of 8 are of another machine, so of another training, than
          those of `dense_cam` above.
          Weights, real films of nih_64.py (665 with boxes, 549 patients),
          training seed 0, run after its figures had been seen: weighting by
          finding instead of by batch lifts the baseline's CAM from .058 (.041
          to .074) to .084 (.066 to .103) at T(IoU) .3 and from .056 (.041 to
          .073) to .112 (.093 to .134) in the pointing game (random map: .066);
          the robust network's stays at chance (.083, .062 to .104, then .054,
          .037 to .071; .057, .042 to .074, then .050, .035 to .066), and no
          gradient map moves (.102, .082 to .123, and .102, .082 to .124; .199,
          .176 to .225, and .189, .162 to .216).
"""

from configs.experiments import nih_64

VARIANTS = ('baseline', 'robust')


def get_config(variant: str = 'robust'):
  config = nih_64.get_config(variant)
  config.loss.weighting = 'finding'
  return config
