"""The baseline: trained on the films as they are.

Question: what does a plain classifier look at?
Command:  python main.py --config=configs/baseline.py
"""

from configs import default


def get_config(preset: str = 'phantom'):
  return default.get_config(preset)
