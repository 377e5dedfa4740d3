r"""Clean and adversarial films in equal parts.

Question: how much of the clean AUROC that configs/robust.py gives up comes
          back where half of the loss is of clean films, and do the maps keep
          what robustness gave them?
Command:  python main.py --config=configs/mixed.py
          python main.py --mode=compare \
            --workdirs=runs/baseline,runs/robust,runs/mixed
Cost:     of a step, in plain steps: (2k + 6) / 3 for k attack steps (2; with
          :nih 3); both halves of the batch are learned from.
Expected: docs/results_phantom.md and docs/results_nih.md where they name it;
          else it was not run, and no figure can be promised.

Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572, equation in section 6.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'mixed')
  config.attack.objective = 'adversarial'
  config.attack.clean_weight = 0.5
  return config
