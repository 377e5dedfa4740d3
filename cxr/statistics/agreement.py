"""What several readers say of the same films, and how far they agree.

Contract. `votes` has shape 'r n k' (readers, films, findings), a label 'n k'; a
vote or a label is 0, 1 or NaN (the reader did not read the film, or does not
say). The readers are fixed: intervals are over patients, and tell what these
readers would do on other patients' films. On weights see `bootstrap`.

Cohen's kappa (Cohen 1960) is of two raters,

  kappa = (agreement - agreement by chance) / (1 - agreement by chance),

and 0 for two who say "present" as often as they do, but of any film. Fleiss'
kappa (Fleiss 1971) is of several raters who need not be the same for all films.
Of n films, of which film i has m_i votes, x_i of them 1, it is

  kappa = 1 - sum x_i (m_i - x_i) / m_i / ((M - n) p (1 - p)),

with M the number of all votes and p the share of them that are 1 (Fleiss, Levin
and Paik 2003, Statistical Methods for Rates and Proportions, section 18.3). A
kappa is NaN where it would divide by 0: all the votes are the same.
"""

import numpy as np
from jaxtyping import Float, Int

from cxr.statistics import bootstrap


def mean_vote(votes: Float[np.ndarray, 'r n k']) -> Float[np.ndarray, 'n k']:
  """The share of a film's readers who say 1; NaN where nobody read it.

  Examples:
    >>> votes = np.array([[[1.0], [np.nan]], [[0.0], [np.nan]]])
    >>> mean_vote(votes).tolist()
    [[0.5], [nan]]
  """
  return bootstrap.defined_mean(np.moveaxis(votes, 0, -1))


def majority(votes: Float[np.ndarray, 'r n k']) -> Float[np.ndarray, 'n k']:
  """What most of a film's readers say: 1, 0, or NaN in a tie.

  Examples:
    >>> votes = np.array([[[1.0, 1]], [[1.0, 0]], [[0.0, np.nan]]])
    >>> majority(votes).tolist()
    [[1.0, nan]]
  """
  share = mean_vote(votes)
  defined = ~np.isnan(share) & (share != 0.5)
  return np.where(defined, (share > 0.5).astype(np.float64), np.nan)


def majority_of_others(
  votes: Float[np.ndarray, 'r n k'],
) -> Float[np.ndarray, 'r n k']:
  """For each reader what most of the OTHER readers of a film say.

  Nobody is measured against a majority that holds his own vote.

  Examples:
    >>> votes = np.array([[[1.0]], [[0.0]], [[0.0]]])
    >>> majority_of_others(votes).ravel().tolist()
    [0.0, nan, nan]
  """
  return np.stack(
    [majority(np.delete(votes, i, axis=0)) for i in range(len(votes))]
  )


def make_cohen_kappa(
  rater: Float[np.ndarray, 'n k'],
  reference: Float[np.ndarray, 'n k'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> bootstrap.Statistic:
  """Makes Cohen's kappa of a rater and a reference, for each finding.

  `patient` is each film's patient as a number 0 … num_patients - 1. A film that
  one of the two does not know counts for neither. NaN where the reference is of
  one kind alone: Cohen's kappa would be 0, whatever the rater says.

  Examples:
    >>> rater, reference = np.array([[1.0], [1], [0], [0]]), np.eye(4)[:, :1]
    >>> statistic = make_cohen_kappa(rater, reference, np.arange(4), 4)
    >>> statistic(np.ones((4, 1))).tolist()
    [[0.5]]
  """
  known = ~np.isnan(rater) & ~np.isnan(reference)
  a, b = np.where(known, rater, 0.0), np.where(known, reference, 0.0)
  sums = bootstrap.make_sums(
    np.stack([known.astype(np.float64), a, b, a * b], axis=1),
    patient,
    num_patients,
  )

  def statistic(weight):
    # Films that are 1 of the rater, of the reference and of both. All stays
    # whole numbers, so that nothing rounds to almost 0.
    films, rated, referred, both = np.moveaxis(sums(weight), 1, 0)
    agreeing = films - rated - referred + 2 * both
    by_chance = rated * referred + (films - rated) * (films - referred)
    has_both = (referred > 0) & (referred < films)
    return bootstrap.divide(
      films * agreeing - by_chance,
      np.where(has_both, films**2 - by_chance, 0.0),
    )

  return statistic


def make_fleiss_kappa(
  votes: Float[np.ndarray, 'r n k'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> bootstrap.Statistic:
  """Makes Fleiss' kappa of all readers, for each finding.

  `patient` is each film's patient as a number 0 … num_patients - 1. A film with
  one vote says nothing of agreement and does not count.

  Examples:
    >>> votes = np.array([[[1.0], [0]], [[1.0], [0]], [[1.0], [1]]])
    >>> statistic = make_fleiss_kappa(votes, np.arange(2), 2)
    >>> statistic(np.ones((2, 1))).round(4).tolist()
    [[0.25]]
  """
  count = (~np.isnan(votes)).sum(axis=0).astype(np.float64)
  positive = np.nansum(votes, axis=0)
  counts = count > 1
  count, positive = np.where(counts, count, 0.0), np.where(counts, positive, 0)
  apart = bootstrap.divide(positive * (count - positive), count)
  sums = bootstrap.make_sums(
    np.stack(
      [counts.astype(np.float64), count, positive, np.nan_to_num(apart)], axis=1
    ),
    patient,
    num_patients,
  )

  def statistic(weight):
    films, all_votes, ones, apart = np.moveaxis(sums(weight), 1, 0)
    variance = bootstrap.divide(ones * (all_votes - ones), all_votes**2)
    chance = (all_votes - films) * np.nan_to_num(variance)
    return 1 - bootstrap.divide(apart, chance)

  return statistic
