r"""What moves the phantom's figures: the map's cells, and the loss's weights.

Question: how much of the localization is the resolution of the map (cells of
          8, 16, 32 pixels of a film of 64), and how much the weighting of rare
          findings? One seed each; epsilon is the sweep of phantom.py.
Command:  C=configs/experiments/ablations.py
          for model in baseline robust; do
            for stride in 16 32; do
              python main.py --config=$C:$model \
                --config.model.output_stride=$stride \
                --workdir=runs/study/phantom_${model}_stride_$stride
            done
            python main.py --config=$C:$model --config.loss.weighting=none \
              --workdir=runs/study/phantom_${model}_unweighted
          done
          python main.py --mode=study --output=runs/study/ablations \
            --workdirs='runs/study/phantom_baseline_0,runs/study/phantom_baseline_[su]*,runs/study/phantom_robust_2_0,runs/study/phantom_robust_[su]*'
Cost:     3 to 7 minutes a run on one core.
Result:   not written down yet.
"""

from configs.experiments import phantom

VARIANTS = phantom.VARIANTS
get_config = phantom.get_config
