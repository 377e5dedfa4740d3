"""TRADES: the clean loss, and a price on what an attack can move.

Question: does a regularizer that asks for stable logits, not for right labels
          on worst-case films, make maps as interpretable as the adversarial
          loss does, at a smaller price in clean AUROC?
Command:  python main.py --config=configs/trades.py
Cost:     of a step, in plain steps: (2k + 7) / 3 for k attack steps (2; with
          :nih 3); the attack needs the clean logits, one more forward pass.
Expected: docs/results_phantom.md and docs/results_nih.md where they name it;
          else it was not run, and no figure can be promised.

Zhang et al. 2019, arXiv 1901.08573, with the Bernoulli divergence of each
finding in the place of the softmax's: see losses.bernoulli_kl. beta = 6 is the
authors' for CIFAR-10; here the divergence is a mean over findings.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'trades')
  config.attack.objective = 'trades'
  config.attack.trades_beta = 6.0
  return config
