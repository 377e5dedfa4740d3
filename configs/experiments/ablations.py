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
Result:   not written down yet.
"""

from configs.experiments import phantom

VARIANTS = phantom.VARIANTS
get_config = phantom.get_config
