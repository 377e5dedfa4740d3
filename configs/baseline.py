"""The baseline: trained on the films as they are.

Question: what does a classifier look at that was trained without an attack?
Command:  python main.py --config=configs/baseline.py
Cost:     3 to 6 minutes on two cores with nothing compiled yet, 2.2 GB.
Result:   it leans on the phantom's shortcut: see docs/results_phantom.md.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  return default.get_config(preset)
