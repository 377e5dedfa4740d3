"""AUROC and average precision against scikit-learn, film by film."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cxr.statistics import bootstrap, rankings
from tests.statistics import made_films

MAKERS = [
  (rankings.make_auroc, oracle.roc_auc_score),
  (rankings.make_average_precision, oracle.average_precision_score),
]


def _oracle(function, score, label, films):
  """Of each finding; a film that was drawn twice stands there twice."""
  values = []
  for s, y in zip(score[films].T, label[films].T, strict=True):
    s, y = s[~np.isnan(y)], y[~np.isnan(y)]
    values.append(function(y, s) if 0 < y.sum() < len(y) else np.nan)
  return values


@pytest.mark.parametrize(('make', 'function'), MAKERS)
@pytest.mark.parametrize('seed', range(3))
def test_weights_are_films_repeated(make, function, seed):
  score, label, patient = made_films.films(seed)
  patient, num_patients = bootstrap.index_patients(patient)
  statistic = make(score, label, patient, num_patients)
  weight = next(
    bootstrap.resample_weights(num_patients, num_resamples=20, seed=seed)
  )
  drawn = [np.repeat(np.arange(60), w[patient].astype(int)) for w in weight.T]
  np.testing.assert_allclose(
    statistic(weight),
    [_oracle(function, score, label, films) for films in drawn],
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    bootstrap.observed(statistic, num_patients),
    _oracle(function, score, label, np.arange(60)),
    rtol=1e-12,
  )


@given(
  st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=14
  )
)
@settings(max_examples=80, deadline=None)
def test_weights_are_films_repeated_whatever_the_ties(rows):
  score, label, patient = (
    np.array([row[i] for row in rows], float) for i in range(3)
  )
  score, label, patient = score[:, None], label[:, None], patient.astype(int)
  weight = np.array([[1.0, 0], [1, 2], [1, 1], [1, 3]])
  for make, function in MAKERS:
    np.testing.assert_allclose(
      make(score, label, patient, 4)(weight)[:, 0],
      [
        _oracle(
          function,
          score,
          label,
          np.repeat(np.arange(len(rows)), w[patient].astype(int)),
        )[0]
        for w in weight.T
      ],
      rtol=1e-12,
    )


def test_auroc_of_known_rankings():
  label = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0]], float)
  score = np.array([[1.0, 5, 1], [2, 5, 2], [3, 5, 3], [4, 5, 4]])
  np.testing.assert_array_equal(rankings.auroc(score, label), [1.0, 0.5, 0.0])


def test_auroc_knows_the_order_alone():
  score, label, _ = made_films.films()
  np.testing.assert_array_equal(
    rankings.auroc(score, label), rankings.auroc(np.exp(3 * score), label)
  )
  infinite = np.array([[-np.inf], [0], [np.inf]])
  assert rankings.auroc(infinite, np.array([[0.0], [1], [1]])) == 1


def test_no_film_is_nan():
  assert np.isnan(rankings.auroc(np.zeros((0, 2)), np.zeros((0, 2)))).all()


@pytest.mark.parametrize('make', [make for make, _ in MAKERS])
def test_films_of_one_label_are_nan_in_every_resample(make):
  score, label = np.zeros((4, 3)), np.array([[0, 1, np.nan]] * 4, float)
  samples = made_films.resampled(
    make, score, label, np.arange(4), num_resamples=5
  )
  assert samples.shape == (5, 3)
  assert np.isnan(samples).all()
