r"""What moves the CAM's figures: the map's cells, and the loss's weights.

Question: how much of the localization is the resolution of the map, and how
          much the weighting of rare findings? One seed each; epsilon is the
          sweep of phantom.py.
Command:  C=configs/experiments/ablations.py
          for model in baseline robust; do
            python main.py --config=$C:$model \
              --workdir=runs/study/phantom_${model}_dense \
              --config.evaluate.methods="('cam','dense_cam','gradient')"
            for stride in 16 32; do
              python main.py --config=$C:$model \
                --config.model.output_stride=$stride \
                --workdir=runs/study/phantom_${model}_stride_$stride
            done
          done
          and of the real films, with C and D of nih_64.py:
          python main.py --config=$C:baseline $D --config.loss.weighting=finding
          python main.py --config=$C:robust $D --config.loss.weighting=finding \
            --config.attack.epsilon=2
          each pair through --mode=study.
Cost:     3 to 9 minutes a run on one core.
Variants: --config=configs/experiments/ablations.py:baseline and :robust are
          those of phantom.py.
Result:   cells, phantom of seed 1, training seed 0, the same weights: at T(IoU)
          .3 the CAM's 8x8 cells reach .265 (baseline) and .263 (robust),
          `dense_cam`'s 16x16 .314 and .304; pointing .380 and .428, then .466
          and .464; at 2.0 and 1.8 false boxes a film, then 3.8 and 2.7. The
          grid is what the CAM lacks, for both alike. Networks trained anew at
          strides of 16 and 32 were not run.
          Weights, real films of nih_64.py, training seed 0: weighting by
          finding instead of by batch lifts the baseline's CAM from .058 (.041
          to .074) to .084 (.066 to .103) at T(IoU) .3 and from .056 (.041 to
          .073) to .112 (.093 to .134) in the pointing game (random map: .066);
          the robust network's stays at chance (.083 and .054; .057 and .050),
          and no gradient map moves (.102 and .102; .199 and .189).
"""

from configs.experiments import phantom

VARIANTS = phantom.VARIANTS
get_config = phantom.get_config
