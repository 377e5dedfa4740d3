"""The model card says what the workdir's files say, and hides nothing."""

import json

import pytest

from configs import baseline, robust
from cxr.reporting import card
from tests import made_workdir


def written(folder, config=None, **changes):
  """A made run's card, its metrics.json changed before."""
  made_workdir.write(folder)
  config = (config or robust.get_config('smoke')).to_dict()
  (folder / 'config.json').write_text(json.dumps(config))
  path = folder / 'metrics.json'
  metrics = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(metrics))
  with open(card.write(str(folder))) as f:
    return f.read(), metrics


def test_figures_are_those_of_metrics_json(tmp_path):
  text, metrics = written(tmp_path)
  mass = metrics['classification']['test']['auroc']['Mass']
  assert (
    f'| Mass | {mass["value"]:.3f} ({mass["low"]:.3f} to {mass["high"]:.3f}) |'
  ) in text
  assert '| Hernia | – (no positive film) |' in text
  assert ('| pgd-10 at epsilon 4/255, every finding attacked alone |') in text
  assert '| random map (control) |' in text
  assert f'{160:064x}' in text  # the hash of the test films, whole
  assert 'Films left out: absent 7.' in text
  assert '| Hernia | none: 0 positive and 120 negative films' in text
  assert '| Mass | 0.400 | 1.700 | −1.200 | 0.728' in text


def test_what_it_is_for_and_what_not(tmp_path):
  text, _ = written(tmp_path / 'a')
  assert 'not a medical device' in text and '## Limits' in text
  steps = robust.get_config('smoke').attack.num_steps
  assert f'adversarial, linf, epsilon 2/255, {steps} steps' in text
  assert 'films are phantoms' in text and 'One hospital' not in text
  text, _ = written(tmp_path / 'b', baseline.get_config('smoke'))
  assert 'trained without an attack' in text


def test_what_was_not_measured_is_said_to_be_so(tmp_path):
  text, _ = written(
    tmp_path,
    subgroups={},
    robustness=[],
    calibration={},
    localization={'count': {}, 'methods': {}, 'map_size': {}},
  )
  for heading, sentence in (
    ('Under attack', 'Not measured.'),
    ('Subgroups', 'Not measured: view'),
    ('Localization', 'no test film has a box'),
    ('Calibration', 'there were no validation films.'),
  ):
    section = text.partition(f'## {heading}')[2].partition('\n## ')[0]
    assert sentence in section


def test_names_are_text(tmp_path):
  config = robust.get_config('smoke')
  config.name = '<img src=x>\n# |'
  text, _ = written(tmp_path, config)
  assert text.startswith('# Model card: &lt;img src=x> # |\n')


def test_a_run_that_was_not_evaluated(tmp_path):
  made_workdir.write(tmp_path, parts=('config', 'data'))
  with pytest.raises(FileNotFoundError, match='No metrics.json'):
    card.write(str(tmp_path))


def test_other_films_are_said_to_be_so(tmp_path):
  made_workdir.write(
    tmp_path,
    source='table',
    findings=('Zyste <i>', 'Erguss'),
    boxed=('Erguss',),
  )
  config = robust.get_config('smoke').to_dict()
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with open(card.write(str(tmp_path))) as f:
    text = ' '.join(f.read().split())
  assert "The films are a user's own, listed in a table (`table`)." in text
  assert (
    'The findings are Zyste &lt;i> and Erguss; boxes exist for Erguss.'
    in (text)
  )
  assert '<i>' not in text
  assert 'phantom' not in text.partition('## Training')[0]
  assert 'of the training patients (split seed 0)' in text


def test_a_run_without_the_record_of_its_training_has_a_card(tmp_path):
  """Its evaluation has its own record of the films."""
  text, _ = written(tmp_path / 'a')
  data = json.loads((tmp_path / 'a' / 'data.json').read_text())
  without, _ = written(tmp_path / 'b', data=data)
  (tmp_path / 'b' / 'data.json').unlink()
  with open(card.write(str(tmp_path / 'b'))) as f:
    assert f.read() == without == text
