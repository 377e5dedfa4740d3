"""FGSM from a random start: the cheapest adversarial training.

Question: does a single attack step give the maps of configs/robust.py at half
          of its cost, and does it hold until the end? AUROC under PGD is
          watched: single-step training may overfit catastrophically.
Command:  python main.py --config=configs/fgsm.py
Cost:     of a step, in plain steps: 5 / 3.
Expected: docs/results_phantom.md and docs/results_nih.md where they name it;
          else it was not run, and no figure can be promised.

Wong, Rice, Kolter 2020, arXiv 2001.03994: the step is 1.25 epsilon, which is
what step_size = 0 means where num_steps = 1.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'fgsm')
  config.attack.objective = 'adversarial'
  config.attack.num_steps = 1
  return config
