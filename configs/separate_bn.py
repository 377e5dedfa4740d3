r"""Clean and adversarial films in equal parts, each with its own statistics.

Question: do separate BatchNorm statistics keep the clean AUROC of a baseline
          while the gradients become those of a robust model?
Command:  python main.py --config=configs/separate_bn.py
          python main.py --mode=evaluate --workdir=runs/separate_bn \
            --config.evaluate.batch_stats=adversarial
          The first evaluates with the clean films' statistics; the second with
          those of the adversarial films, in place of the first's results.
Cost:     of a step, in plain steps: (2k + 6) / 3 with k = 10 attack steps.
Expected: docs/results_phantom.md and docs/results_nih.md where they name it;
          else it was not run, and no figure can be promised.

Han et al. 2021, Advancing diagnostic performance and clinical usability of
neural networks via adversarial training and dual batch normalization, Nat
Commun 12: L-inf, epsilon .005, 10 steps of .0025, random start, equal parts.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'separate_bn')
  config.attack.objective = 'adversarial'
  config.attack.clean_weight = 0.5
  config.attack.separate_batch_stats = True
  config.attack.epsilon = 0.005 * 255
  config.attack.num_steps = 10
  config.attack.step_size = 0.0025 * 255
  return config
