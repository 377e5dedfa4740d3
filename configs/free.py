"""'Free' adversarial training: one gradient for the weights and the film.

Question: does adversarial training at the cost of plain training make the
          features more interpretable?
Command:  python main.py --config=configs/free.py
Cost:     of a step, in plain steps: 4, the replays of a batch; a quarter of the
          epochs, so that the run costs what configs/baseline.py does.
Expected: docs/results_phantom.md and docs/results_nih.md where they name it;
          else it was not run, and no figure can be promised.

Shafahi et al. 2019, arXiv 1904.12843, algorithm 1; the perturbation starts anew
with each batch, see cxr/training/train_step.py.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'free')
  config.attack.objective = 'free'
  config.attack.free_replays = 4
  for name in ('num_epochs', 'warmup_epochs', 'validate_every'):
    config.train[name] /= config.attack.free_replays
  return config
