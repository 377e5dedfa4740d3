"""Votes of readers: majorities by hand, kappas against others' numbers."""

import numpy as np
import pytest
from sklearn import metrics

from cxr.statistics import agreement, bootstrap

# Fleiss, Levin and Paik 2003, table 18.6: votes and positive votes of each of
# 25 subjects, read by two to five raters. The book's kappa is .54.
FLEISS_LEVIN_PAIK = (
  *((2, 2), (2, 0), (3, 2), (4, 3), (3, 3), (4, 1), (3, 0), (5, 0), (2, 0)),
  *((4, 4), (5, 5), (3, 3), (4, 4), (4, 3), (2, 0), (2, 2), (3, 1), (2, 1)),
  *((4, 1), (5, 4), (3, 2), (4, 0), (3, 0), (3, 3), (2, 2)),
)


def _votes(seed=0, r=5, n=80, k=3, unread=0.0):
  """Votes that follow a film's own truth."""
  rng = np.random.default_rng(seed)
  truth = rng.random((n, k)) < 0.4
  votes = (rng.random((r, n, k)) < np.where(truth, 0.8, 0.15)).astype(float)
  votes[rng.random(votes.shape) < unread] = np.nan
  return votes


def _observed(make, *votes):
  n = votes[0].shape[-2]
  return bootstrap.observed(make(*votes, np.arange(n), n), n)


def test_majorities_counted_by_hand():
  nan = np.nan
  votes = np.array(
    [[1, 1, 1, nan, nan], [1, 0, nan, nan, 0], [0, 0, 0, nan, nan]]
  )[:, :, None]
  np.testing.assert_array_equal(
    agreement.majority(votes)[:, 0], [1, 0, nan, nan, 0]
  )
  np.testing.assert_allclose(
    agreement.mean_vote(votes)[:, 0], [2 / 3, 1 / 3, 0.5, nan, 0]
  )
  np.testing.assert_array_equal(
    agreement.majority_of_others(votes)[..., 0],
    [[nan, 0, 0, nan, 0], [nan, nan, nan, nan, nan], [1, nan, 1, nan, 0]],
  )


def test_a_lone_reader_has_no_others():
  assert np.isnan(agreement.majority_of_others(_votes(r=1))).all()


@pytest.mark.parametrize('unread', [0.0, 0.2])
def test_cohens_kappa_is_scikit_learns(unread):
  first, second = _votes(unread=unread)[:2]
  kappa = _observed(agreement.make_cohen_kappa, first, second)
  for k in range(3):
    known = ~np.isnan(first[:, k]) & ~np.isnan(second[:, k])
    theirs = metrics.cohen_kappa_score(first[known, k], second[known, k])
    assert kappa[k] == pytest.approx(theirs, abs=1e-12)


def test_cohens_kappa_of_a_resample_is_that_of_its_films():
  first, second = _votes()[:2]
  patient = np.random.default_rng(1).integers(0, 20, 80)
  statistic = agreement.make_cohen_kappa(first, second, patient, 20)
  (weight,) = bootstrap.resample_weights(20, num_resamples=4)
  for r, of_resample in enumerate(statistic(weight)):
    films = np.repeat(np.arange(80), weight[patient, r].astype(int))
    theirs = metrics.cohen_kappa_score(first[films, 1], second[films, 1])
    assert of_resample[1] == pytest.approx(theirs, abs=1e-12)


def test_where_all_films_are_of_one_kind_there_is_no_kappa():
  nothing = np.zeros((6, 1))
  assert np.isnan(_observed(agreement.make_cohen_kappa, nothing, nothing))
  assert np.isnan(
    _observed(agreement.make_fleiss_kappa, np.stack([nothing] * 3))
  )
  # A rater who says one thing of all is no better than chance.
  other = np.eye(6)[:, :1]
  assert _observed(agreement.make_cohen_kappa, nothing, other) == 0
  assert np.isnan(_observed(agreement.make_cohen_kappa, other, nothing))


def test_fleiss_kappa_of_a_published_example():
  count, positive = np.array(FLEISS_LEVIN_PAIK).T
  assert (count.sum(), positive.sum()) == (81, 46)
  reader = np.arange(5)[:, None]
  votes = np.where(reader < positive, 1.0, np.where(reader < count, 0, np.nan))
  (kappa,) = _observed(agreement.make_fleiss_kappa, votes[..., None])
  assert round(kappa, 2) == 0.54


def test_fleiss_kappa_in_his_own_form():
  """1971: films' shares of agreeing pairs, and shares of the categories."""
  votes = _votes()
  kappa = _observed(agreement.make_fleiss_kappa, votes)
  for k in range(3):
    ones = votes[..., k].sum(axis=0)
    table = np.stack([ones, 5 - ones], axis=1)
    pairs = (table * (table - 1)).sum(axis=1) / (5 * 4)
    chance = (table.sum(axis=0) / table.sum()) ** 2
    expected = (pairs.mean() - chance.sum()) / (1 - chance.sum())
    assert kappa[k] == pytest.approx(expected, abs=1e-12)


def test_a_film_with_one_vote_does_not_count():
  votes = _votes(unread=0.4)
  more = np.concatenate([votes, np.full((5, 9, 3), np.nan)], axis=1)
  more[2, -9:] = 1.0
  np.testing.assert_allclose(
    _observed(agreement.make_fleiss_kappa, more),
    _observed(agreement.make_fleiss_kappa, votes),
  )
