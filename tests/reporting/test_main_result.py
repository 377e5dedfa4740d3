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


def test_the_answer_says_on_how_many_films_it_was_attacked():
  def auroc(value, images):
    mean = {'value': value, 'low': 0.1, 'high': 0.9, 'patients': 3}
    return {'auroc': {'mean': mean | {'images': images}}}

  def answer(attacked_films):
    attack = {'split': 'test', 'attack': 'pgd-10', 'epsilon': 2.0}
    (text,) = main_result.answer(
      {
        'classification': {'test': auroc(0.8, 9)},
        'robustness': [attack | auroc(0.5, attacked_films)],
      }
    )
    return text

  assert 'epsilon 2/255 it is 0.500 (0.100 to 0.900) on 4 of them.' in answer(4)
  assert 'of them' not in answer(9)


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
