"""The command line: writes a phantom and, if asked, a contact sheet of it."""

import argparse
import csv
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from input_pipeline.findings import FINDINGS
from input_pipeline.phantom import write


def contact_sheet(dir: str | os.PathLike, path: str | os.PathLike) -> None:
  """Draws test films of every finding, with their boxes and causes, to `path`.

  The last row shows two films' lesions (difference x4) and gratings (x20).
  """
  from matplotlib import figure, patches

  dir, rows, columns = pathlib.Path(dir), 6, 8
  test = set((dir / 'test_list.txt').read_text().split())
  with open(dir / 'Data_Entry_2017_v2020.csv', newline='') as f:
    labels = {row[0]: row[1] for row in csv.reader(f) if row[0] in test}
  with open(dir / 'BBox_List_2017.csv', newline='') as f:
    boxes = [row for row in csv.reader(f) if row[0] in test]

  def gray(folder, name):
    return np.asarray(Image.open(dir / folder / name), np.float32)

  # Each finding's turn in order, by the first film not yet shown that has it.
  wanted = ('No Finding', *FINDINGS)
  shown: list[str] = []
  while len(shown) < min(columns * (rows - 1), len(labels)):
    finding = wanted[len(shown) % len(wanted)]
    left = [name for name in labels if name not in shown]
    having = [n for n in left if finding in labels[n].split('|')]
    # Alone where possible, so that it can be seen.
    shown.append(min(having or left, key=lambda n: labels[n].count('|')))

  sheet = figure.Figure(figsize=(1.9 * columns, 2.05 * rows), layout='tight')
  axes = sheet.subplots(rows, columns)
  for axis in axes.flat:
    axis.axis('off')
  look = {'cmap': 'gray', 'vmin': 0, 'vmax': 255}
  for axis, name in zip(axes.flat, shown, strict=False):
    image = gray('images', name)
    axis.imshow(image, **look)
    axis.set_title(labels[name].replace('|', '\n'), fontsize=6)
    for x, y, w, h in (map(float, b[2:6]) for b in boxes if b[0] == name):
      scale = len(image) / 1024
      axis.add_patch(
        patches.Rectangle(
          (x * scale - 0.5, y * scale - 0.5),
          w * scale,
          h * scale,
          fill=False,
          edgecolor='tab:orange',
          linewidth=0.8,
        )
      )
  ill = [name for name in shown if labels[name] != 'No Finding']
  for name, panels in zip(ill, (axes[-1, :4], axes[-1, 4:]), strict=False):
    image = gray('images', name)
    lesion = image - gray('images_without_lesions', name)
    shortcut = image - gray('images_without_shortcut', name)
    pictures = {
      labels[name].replace('|', '\n'): image,
      'without lesions': image - lesion,
      'lesions x4': 128 + 4 * lesion,
      'shortcut x20': 128 + 20 * shortcut,
    }
    for axis, (title, picture) in zip(panels, pictures.items(), strict=True):
      axis.imshow(picture, **look)
      axis.set_title(title, fontsize=6)
  sheet.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog='python -m input_pipeline.phantom',
    description='Write a phantom of NIH ChestX-ray14.',
  )
  parser.add_argument(
    '--dir', required=True, type=os.path.expanduser, help='folder to make'
  )
  parser.add_argument('--num_films', type=int, default=5000)
  parser.add_argument('--image_size', type=int, default=64, help='pixels')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--shortcut_amplitude', type=float, default=3.0, help='in 1/255'
  )
  parser.add_argument('--shortcut_prevalence', type=float, default=0.95)
  parser.add_argument('--workers', type=int, default=0, help='0: all cores')
  parser.add_argument(
    '--contact_sheet',
    type=os.path.expanduser,
    help='also draw a sample of it, PNG',
  )
  options = vars(parser.parse_args(argv))
  sheet = options.pop('contact_sheet')
  try:
    write.write_phantom(**options)
  except (ValueError, OSError, RuntimeError) as error:
    parser.error(str(error))
  if sheet:
    contact_sheet(options['dir'], sheet)


if __name__ == '__main__':
  main()
