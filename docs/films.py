"""Draws docs/films.png: three films with the maps of two networks.

  python -m docs.films runs/baseline runs/robust docs/films.png

The runs have to be evaluated on the same films. Of each finding the film is the
one that their comparison shows.
"""

import io
import sys

from PIL import Image

from cxr.reporting import examples, plots

SHOWN = ('Atelectasis', 'Infiltration', 'Pneumonia')
NAMES = ('baseline', 'robust')
METHODS = {'cam': 'CAM', 'gradient': 'gradient'}
RULE = 'wang'


def main(baseline: str, robust: str, path: str) -> None:
  by_run = dict(
    zip(
      NAMES, (examples.read(w, RULE) for w in (baseline, robust)), strict=True
    )
  )
  first_of = {}
  for case in examples.shared(by_run):
    first_of.setdefault(case[NAMES[0]]['finding'], case)
  cases = []
  for finding in SHOWN:
    case = first_of[finding]
    of_runs = lambda key, case=case: {
      run: {title: case[run][key][m] for m, title in METHODS.items()}
      for run in NAMES
    }
    film = {key: case[NAMES[0]][key] for key in ('finding', 'image', 'truth')}
    cases.append({**film, 'maps': of_runs('maps'), 'boxes': of_runs('boxes')})
  drawn = plots.gallery_figure(
    cases, runs=NAMES, methods=tuple(METHODS.values())
  )
  picture = io.BytesIO()
  drawn.savefig(picture, dpi=110, facecolor='white')
  Image.open(picture).convert('RGB').quantize(256).save(path, optimize=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
