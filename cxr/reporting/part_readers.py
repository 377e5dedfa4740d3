"""The section 'Readers': a network and its labels beside readers of the films.

`metrics.json` has what estimates/reader_estimates.py makes, under 'readers'.
"""

from collections.abc import Mapping

import markupsafe
import numpy as np

from cxr.reporting import plots, tables, wording

_MAJORITY = (
  'Against the majority: of all readers of a film for the network, of the '
  'other readers for a reader. A film on which as many say one thing as the '
  'other is left out.'
)
_LABELS = (
  'Label: that of the data set (in many, mined from a report). The AUROC '
  "of the readers' votes on it, the share of readers who see the finding, is "
  "what the network's on the same films is to be read against; the difference "
  "is the votes' less the network's."
)
_KAPPA = (
  "Kappa is agreement beyond chance, 1 at most and 0 by chance: Fleiss' of all "
  "readers among each other; Cohen's of one reader and the majority of the "
  'others (mean over readers), and of the label and the majority.'
)


def name(readers: Mapping) -> str:
  """'the majority of 5 readers' or 'the reader'.

  Args:
    readers: the part of metrics.json.
  """
  count = len(readers['readers'])
  return 'the reader' if count == 1 else f'the majority of {count} readers'


def sentence(readers: Mapping) -> str:
  """The network against the majority, and beside the votes; '' without."""
  auroc = readers.get('auroc', {}).get('mean')
  if wording.value_of(auroc) is None:
    return ''
  only = wording.of_findings(readers['auroc'])
  meant = f' of {only}' if only else ', as the mean over findings,'
  text = (
    f'Against {name(readers)}, who read '
    f'{wording.count(readers["films"], "test film")}, the AUROC{meant} is '
    f'{wording.with_interval(auroc)}.'
  )
  if len(readers['readers']) == 1:
    text = text.replace(', who read ', ' of ')
  network, votes = (readers['label'][of]['mean'] for of in ('network', 'votes'))
  if wording.value_of(votes) is not None:
    text += (
      f" Against the data set's labels on these films it is "
      f"{wording.with_interval(network)}; the readers' own votes reach "
      f'{wording.with_interval(votes)} on them.'
    )
  return text


def readers(metrics: Mapping) -> tables.Section | None:
  """How the network and each reader do, and how far all agree."""
  estimated = metrics.get('readers') or {}
  if not estimated:
    return None
  return tables.Section(
    'readers',
    'Readers',
    [
      _aurocs(estimated),
      _kappas(estimated),
      tables.group([_points(estimated)], {'finding': 'mean', 'reader': ''}),
    ],
    text=_text(estimated),
    figures=[_figure(estimated)],
  )


def _text(estimated) -> list[str]:
  text = [sentence(estimated)]
  if estimated['not_scored']:
    text.append(
      'Not scored against the readers, whose majority does not have both '
      f'positive and negative films: {wording.listed(estimated["not_scored"])}.'
    )
  return [t for t in text if t]


def _aurocs(estimated):
  label = estimated['label']
  rows = [
    {
      'finding': finding,
      'positive films': estimated['positives'].get(finding),
      'network, majority': auroc,
      'network, label': label['network'][finding],
      'votes, label': label['votes'][finding],
      'difference': tables.estimate_cell(
        label['difference'][finding], sign=True
      ),
      'p': tables.p_cell(label['difference'][finding]['p']),
    }
    for finding, auroc in estimated['auroc'].items()
  ]
  films = wording.count(estimated['films'], 'film')
  caption = f"AUROC of the network and of the readers' votes, {films}"
  return tables.table('readers-auroc', caption, rows, _MAJORITY, _LABELS)


def _kappas(estimated):
  kappa = estimated['kappa']
  rows = [
    {
      'finding': finding,
      'all readers': of_all,
      'one reader and the others': kappa['one_and_others'][finding],
      'label and majority': kappa['label'][finding],
      **tables.counts(of_all),
    }
    for finding, of_all in kappa['readers'].items()
  ]
  caption = 'Agreement beyond chance: kappa'
  return tables.table('readers-kappa', caption, rows, _KAPPA)


def _points(estimated):
  rows = [
    {
      'reader': reader,
      'finding': finding,
      'sensitivity': sensitivity,
      'specificity': of['specificity'][finding],
      'kappa with the others': of['kappa'][finding],
      'films': of['specificity'][finding]['images'] + sensitivity['images']
      if finding != 'mean'
      else of['films'],
    }
    for reader, of in estimated['readers'].items()
    for finding, sensitivity in of['sensitivity'].items()
  ]
  caption = 'Each reader against the majority of the others'
  return tables.table('readers-points', caption, rows, _MAJORITY)


def _figure(estimated) -> plots.Drawing | None:
  """The ROC curve of each finding, and the readers' points."""
  panels = [
    {
      'title': f'{finding}\nAUROC '
      + wording.number(wording.value_of(estimated['auroc'][finding])),
      'rates': np.linspace(0, 1, len(sensitivities)),
      'sensitivities': sensitivities,
      'points': {
        reader: (of['sensitivity'][finding], of['specificity'][finding])
        for reader, of in estimated['readers'].items()
        if wording.value_of(of['sensitivity'][finding]) is not None
        and wording.value_of(of['specificity'][finding]) is not None
      },
    }
    for finding, sensitivities in estimated['roc'].items()
  ]
  if not panels:
    return None
  alt = '; '.join(
    f'{" ".join(panel["title"].split())}: '
    + ', '.join(
      f'{reader} {wording.number(wording.value_of(sensitivity), 2)} at '
      f'{wording.number(1 - wording.value_of(specificity), 2)}'
      for reader, (sensitivity, specificity) in panel['points'].items()
    )
    for panel in panels
  )
  picture = plots.svg(
    plots.roc_panels(panels),
    f'Sensitivity over 1 less specificity. {alt}.',
  )
  caption = (
    f"The network's ROC curve against {name(estimated)}, and each reader's "
    'sensitivity and specificity against the majority of the others with '
    '95 % intervals. A point below the curve: the network, at some threshold, '
    'does better.'
  )
  return plots.Drawing(markupsafe.Markup(picture), caption, wide=True)
