"""The first screen's sentences, without a page around them."""

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
