"""The first screen's sentences, without a page around them."""

from cxr import run_files
from cxr.reporting import main_result
from tests import made_workdir


def test_first_screen_tells_what_the_logits_rest_on():
  share = {'lesion_share': {'': {'': {'mean': made_workdir.estimate(0.25)}}}}
  (text,) = main_result.answer({'measures': share})
  assert "the lesion's share of this change is 0.250 (0.210 to 0.290)" in text
  unknown = {'lesion_share': {'': {'': {'mean': made_workdir.undefined()}}}}
  (text,) = main_result.answer({'measures': unknown})
  assert 'share' not in text


def test_every_finding_attacked_alone_is_the_headline():
  def entry(attack, epsilon, value, **more):
    mean = made_workdir.estimate(value)
    return {
      'attack': attack,
      'epsilon': epsilon,
      'auroc': {'mean': mean},
      **more,
    }

  joint = [entry('pgd-10', epsilon, 1 - epsilon / 16) for epsilon in (4.0, 2.0)]
  clean = {'clean': made_workdir.estimate(0.9)}
  alone = [entry('pgd-10-alone', e, 0.5 - e / 16, **clean) for e in (2.0, 4.0)]
  metrics = {'robustness': joint + alone}
  (text,) = main_result.answer(metrics)
  assert text == (
    'Under the attack pgd-10 at epsilon 4/255 the AUROC, as the mean over '
    'findings, is 0.250 (0.210 to 0.290) with every finding attacked alone (on '
    '160 films, whose AUROC is 0.900 without the attack) and 0.750 (0.710 to '
    '0.790) with all findings attacked at once (on 160 films).'
  )
  labels = [tile.label for tile in main_result.tiles(metrics)]
  assert labels == [
    'Mean AUROC under pgd-10 at epsilon 4/255, every finding attacked alone',
    'Mean AUROC under pgd-10 at epsilon 4/255, all findings attacked at once',
  ]
  assert '0.900 without the attack' in main_result.tiles(metrics)[0].lines
  # Beside it stands the joint attack of the same epsilon; the worst of several.
  metrics['robustness'] = (
    joint
    + alone[:1]
    + [
      entry('worst_case', 2.0, 0.6),
      entry('apgd-10', 2.0, 0.7),
    ]
  )
  found = main_result.attacked(metrics['robustness'])
  assert [(e['attack'], e['epsilon']) for e in found] == [
    ('pgd-10-alone', 2.0),
    ('worst_case', 2.0),
  ]
  # An older run was attacked at once only, and says so.
  (text,) = main_result.answer({'robustness': joint})
  assert '0.750 (0.710 to 0.790) with all findings attacked at once' in text
  assert text.endswith(
    'AUROC with every finding attacked alone was not measured; '
    '--mode=evaluate measures it, on config.evaluate.finding_attack_films '
    'films of each finding.'
  )


def test_the_answer_says_on_how_many_films_it_was_attacked():
  def auroc(value, images):
    mean = {'value': value, 'low': 0.1, 'high': 0.9, 'patients': 3}
    return {'auroc': {'mean': mean | {'images': images}}}

  def answer(attacked_films):
    attack = {'split': 'test', 'attack': 'pgd-10', 'epsilon': 2.0}
    _, text = main_result.answer(
      {
        'classification': {'test': auroc(0.8, 9)},
        'robustness': [attack | auroc(0.5, attacked_films)],
      }
    )
    return text

  assert (
    'is 0.500 (0.100 to 0.900) with all findings attacked at once (on 4 films)'
  ) in answer(4)


def test_own_less_another_patient_s_is_the_first_sentence(tmp_path):
  metrics = run_files.read(made_workdir.write(tmp_path / 'a'), 'metrics.json')
  methods = metrics['localization']['methods']
  for name, value in (
    ('cam', 0.5),
    ('cam_another_patient', 0.375),
    ('cam_own_less_another', 0.125),
  ):
    methods[name]['wang']['mean']['iou@0.3'] = made_workdir.estimate(value)
  first, second, *_ = main_result.answer(metrics)
  assert first == (
    "Own less another patient's: boxes drawn from a film's own cam map have an "
    "accuracy of 0.500 at T(IoU) 0.3, those from the same network's maps of "
    'other patients without the finding 0.375; the difference is +0.125 '
    '(+0.085 to +0.165).'
  )
  assert 'AUROC' in second
  metrics['localization']['without_another'] = {'Mass': ['a.png', 'b.png']}
  first, *_ = main_result.answer(metrics)
  assert '2 films and findings with a true box have no such other film' in first
  # A run of before has no such control.
  del methods['cam_own_less_another'], methods['cam_another_patient']
  assert 'AUROC' in main_result.answer(metrics)[0]
