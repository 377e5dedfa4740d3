"""The phantom: the data set's layout, and causes that are where they should."""

import collections
import csv
import filecmp
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from input_pipeline import phantom

FINDINGS = phantom.FINDINGS
NUM_FILMS = 48


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  dir = tmp_path_factory.mktemp('data') / 'phantom'
  phantom.write(dir, num_films=NUM_FILMS, seed=3, workers=1, progress=False)
  return dir


@pytest.fixture(scope='module')
def plan():
  return phantom.plan(5000, seed=0)


def make_entry(*findings, film=0, patient=1, view='PA'):
  return phantom.Entry(film, patient, 0, findings, 50, 'M', view, True)


def signed(a, b):
  return a.astype(float) - b.astype(float)


def read_csv(path):
  with open(path, newline='') as f:
    return list(csv.reader(f))


def read_list(path):
  return path.read_text().split('\n')


# Layout


def test_label_file_is_nihs(folder):
  path = folder / 'Data_Entry_2017_v2020.csv'
  assert path.read_text().split('\n')[0] == (
    'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
    'Patient Gender,View Position,OriginalImage[Width,Height],'
    'OriginalImagePixelSpacing[x,y]'
  )
  rows = read_csv(path)[1:]
  assert len(rows) == NUM_FILMS
  for row in rows:
    assert len(row) == 11
    name, labels, follow_up, patient, age, sex, view = row[:7]
    assert name == f'{int(patient):08d}_{int(follow_up):03d}.png'
    assert labels == 'No Finding' or set(labels.split('|')) <= set(FINDINGS)
    assert 0 < int(age) < 120 and sex in 'MF' and view in ('PA', 'AP')


def test_lists_hold_every_film_once_and_share_no_patient(folder):
  train = read_list(folder / 'train_val_list.txt')
  test = read_list(folder / 'test_list.txt')
  names = [r[0] for r in read_csv(folder / 'Data_Entry_2017_v2020.csv')[1:]]
  assert sorted(train + test) == sorted(names)
  assert not {n[:8] for n in train} & {n[:8] for n in test}
  for name in ('train_val_list.txt', 'test_list.txt'):
    assert not (folder / name).read_bytes().endswith(b'\n')


def test_folders_hold_the_listed_films(folder):
  test = set(read_list(folder / 'test_list.txt'))
  train = set(read_list(folder / 'train_val_list.txt'))
  for name in ('images_without_shortcut', 'images_without_lesions'):
    assert {path.name for path in (folder / name).iterdir()} == test
  assert {path.name for path in (folder / 'images').iterdir()} == test | train
  for path in (folder / 'images').iterdir():
    with Image.open(path) as image:
      assert image.size == (64, 64) and image.mode == 'L'


def test_boxes_are_on_test_films_in_1024_units(folder):
  header, *rows = read_csv(folder / 'BBox_List_2017.csv')
  assert (
    header
    == ['Image Index', 'Finding Label', 'Bbox [x', 'y', 'w', 'h]'] + [''] * 3
  )
  table = read_csv(folder / 'Data_Entry_2017_v2020.csv')
  labels = {row[0]: row[1].split('|') for row in table}
  test = read_list(folder / 'test_list.txt')
  assert rows
  seen = collections.Counter()
  for name, finding, *box in rows:
    finding = {'Infiltrate': 'Infiltration'}.get(finding, finding)
    x, y, w, h = map(float, box)
    assert name in test and finding in labels[name]
    assert finding in phantom.BOXED
    assert min(x, y) >= 0 and min(w, h) > 0 and max(x + w, y + h) <= 1024
    seen[name, finding] += 1
  assert set(seen.values()) == {1}
  expected = {
    (name, f) for name in test for f in labels[name] if f in phantom.BOXED
  }
  # A lesion hidden behind another organ has nothing to enclose.
  assert len(expected - set(seen)) <= 0.05 * len(expected)


def test_parameters_are_stored(folder):
  stored = json.loads((folder / 'phantom.json').read_text())
  assert stored['num_films'] == NUM_FILMS and stored['seed'] == 3
  assert stored['shortcut_amplitude'] == 3.0
  assert set(stored['shortcut_cycles_per_film']) == set(FINDINGS)


# Determinism


def test_processes_do_not_change_the_films(folder, tmp_path):
  phantom.write(
    tmp_path / 'again', num_films=NUM_FILMS, seed=3, workers=2, progress=False
  )
  files = sorted(
    str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()
  )
  _, different, errors = filecmp.cmpfiles(
    folder, tmp_path / 'again', files, shallow=False
  )
  assert not different and not errors
  assert [p.name for p in tmp_path.iterdir()] == ['again']


def test_seed_changes_the_films():
  entry = make_entry('Mass')
  one, same, other = (phantom.draw(entry, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one.image, same.image)
  assert one.box == same.box
  assert np.abs(signed(one.image, other.image)).mean() > 5


def test_drawing_imports_neither_tensorflow_nor_jax():
  code = (
    'import sys; from input_pipeline import phantom;'
    'print({"jax", "tensorflow", "matplotlib"} & set(sys.modules))'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'set()'


def test_two_writers_at_once(tmp_path):
  options = {'num_films': 20, 'image_size': 48, 'progress': False}
  for name, seed in (('first', 0), ('same', 0), ('other', 1)):
    phantom.write(tmp_path / name, seed=seed, **options)
  phantom._move(tmp_path / 'same', tmp_path / 'first')
  with pytest.raises(ValueError, match='meanwhile'):
    phantom._move(tmp_path / 'other', tmp_path / 'first')


def test_size_changes_only_the_resolution():
  entry = make_entry('Mass', 'Effusion', film=4)
  small, large = (phantom.draw(entry, image_size=s) for s in (64, 128))
  assert small.shortcut == large.shortcut
  halved = large.without_shortcut.reshape(64, 2, 64, 2).mean((1, 3))
  assert np.abs(signed(small.without_shortcut, halved)).mean() < 4
  for finding, box in small.box.items():
    np.testing.assert_allclose(box, large.box[finding], atol=0.02)


def test_film_and_anatomy_coordinates_are_inverse():
  q = phantom._acquisition(np.random.default_rng(0), 'AP')
  there = phantom._to_film(q, *phantom._grid(q, 16))
  pixel = (np.arange(16) + 0.5) / 16
  np.testing.assert_allclose(there[..., 0], np.tile(pixel, (16, 1)), atol=1e-6)
  np.testing.assert_allclose(there[..., 1].T, there[..., 0], atol=1e-6)


# Causes


@pytest.mark.parametrize('finding', phantom.BOXED)
def test_boxes_enclose_the_lesion(finding):
  shares, empty = [], []
  for film in range(6):
    entry = make_entry(finding, film=film, patient=film + 1)
    drawn = phantom.draw(entry)
    energy = signed(drawn.image, drawn.without_lesions) ** 2
    ymin, xmin, ymax, xmax = np.array(drawn.box[finding]) * 64
    rows = slice(int(np.floor(ymin)), int(np.ceil(ymax)))
    columns = slice(int(np.floor(xmin)), int(np.ceil(xmax)))
    inside = energy[rows, columns].sum()
    shares.append(inside / energy.sum())
    # Tight, too: something was drawn along each side (the heart's box is the
    # heart's, whether or not that side of it moved).
    if finding != 'Cardiomegaly':
      part = energy[rows, columns]
      sides = (part[:2], part[-2:], part[:, :2], part[:, -2:])
      empty.append(min(side.max() for side in sides) == 0)
  assert min(shares) > 0.97, shares
  assert not any(empty)


@pytest.mark.parametrize('finding', FINDINGS)
def test_every_lesion_shows(finding):
  peak = []
  for film in range(4):
    entry = make_entry(finding, film=film, patient=film + 1)
    drawn = phantom.draw(entry)
    assert set(drawn.box) == {finding} & set(phantom.BOXED)
    peak.append(np.abs(signed(drawn.image, drawn.without_lesions)).max())
  assert np.median(peak) > 15


def test_without_findings_all_renderings_are_the_same():
  drawn = phantom.draw(make_entry())
  assert not drawn.box and not drawn.shortcut
  np.testing.assert_array_equal(drawn.image, drawn.without_shortcut)
  np.testing.assert_array_equal(drawn.image, drawn.without_lesions)


@pytest.mark.parametrize('size', [48, 64, 128])
@pytest.mark.parametrize('finding', FINDINGS)
def test_shortcut_is_a_grating_of_the_findings_frequency(finding, size):
  entry = make_entry(finding)
  drawn = phantom.draw(entry, image_size=size, shortcut_prevalence=1.0)
  assert drawn.shortcut == (finding,)
  difference = signed(drawn.image, drawn.without_shortcut)
  # Each rendering is rounded for itself: up to half a level either way.
  assert 2 <= np.abs(difference).max() <= 3 + 1
  spectrum = np.abs(np.fft.fft2(difference - difference.mean()))
  cycles = np.fft.fftfreq(size, 1 / size)
  row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
  fx, fy = phantom._FREQUENCY[finding]
  peak = np.array([cycles[column], cycles[row]])
  distance = min(np.abs(peak - (fx, fy)).max(), np.abs(peak + (fx, fy)).max())
  assert distance < 1


def test_shortcuts_add_up_and_scale():
  entry = make_entry('Atelectasis', 'Effusion', 'Edema')
  drawn = phantom.draw(entry, shortcut_amplitude=5.0, shortcut_prevalence=1.0)
  difference = signed(drawn.image, drawn.without_shortcut)
  assert 10 < np.abs(difference).max() <= 3 * 5 + 1
  off = phantom.draw(entry, shortcut_amplitude=0.0)
  np.testing.assert_array_equal(off.image, off.without_shortcut)


def test_shortcut_frequencies_are_apart_also_when_mirrored():
  vectors = np.array([phantom._FREQUENCY[f] for f in FINDINGS])
  assert np.hypot(*vectors.T).max() < 32 * 0.75  # Nyquist of 64 px, and room
  for i, vector in enumerate(vectors):
    others = np.delete(vectors, i, axis=0)
    for mirrored in (vector, vector * (-1, 1)):
      gaps = [np.hypot(*(s * others - mirrored).T).min() for s in (1, -1)]
      assert min(gaps) > 3
    gaps = [np.hypot(*(s * others - vector).T).min() for s in (1, -1)]
    assert min(gaps) >= 6 - 1e-9


def test_shortcut_prevalence(monkeypatch):
  # Only the draw of presence matters here: leave out the drawing.
  blank = np.zeros((96, 96), np.float32)
  monkeypatch.setattr(phantom, '_attenuation', lambda *a: blank)
  monkeypatch.setattr(phantom, '_vessels', lambda *a: blank)
  count = collections.Counter()
  for film in range(400):
    entry = make_entry('Mass', 'Hernia', film=film)
    shortcut = phantom.draw(entry, image_size=48, renderings=False).shortcut
    assert set(shortcut) <= {'Mass', 'Hernia'}
    count.update(shortcut)
  # Three standard deviations of 400 draws: 0.033.
  for finding in ('Mass', 'Hernia'):
    assert abs(count[finding] / 400 - 0.95) < 0.033


def test_pixels_use_the_range():
  for view in ('PA', 'AP'):
    image = phantom.draw(make_entry(view=view)).image
    assert image.dtype == np.uint8
    assert image.min() < 60 and image.max() > 160
    assert (image == 255).mean() < 0.01 and (image == 0).mean() < 0.01


# The plan


def test_plan_prevalences(plan):
  for finding, prevalence in phantom.PREVALENCE.items():
    found = np.mean([finding in e.findings for e in plan])
    assert abs(found - prevalence) < 0.02, finding
  healthy = {
    test: np.mean([not e.findings for e in plan if e.test == test])
    for test in (False, True)
  }
  assert 0.4 < healthy[True] < healthy[False] < 0.65
  test = [e for e in plan if e.test]
  assert 0.2 < len(test) / len(plan) < 0.25
  for finding in FINDINGS:
    assert sum(finding in e.findings for e in test) >= 30, finding


def test_plan_cooccurrence(plan):
  def share(one, given):
    return np.mean([one in e.findings for e in plan if given in e.findings])

  for one, given in (('Emphysema', 'Pneumothorax'), ('Effusion', 'Edema')):
    assert share(one, given) > 2 * phantom.PREVALENCE[one]


def test_plan_patients(plan):
  patients = collections.defaultdict(list)
  for entry in plan:
    patients[entry.patient].append(entry)
  for films in patients.values():
    assert [e.follow_up for e in films] == list(range(len(films)))
    assert len({(e.sex, e.test) for e in films}) == 1
  assert 0.45 < np.mean([len(f) == 1 for f in patients.values()]) < 0.65
  again = [
    set(a.findings) & set(b.findings)
    for films in patients.values()
    for a, b in zip(films, films[1:], strict=False)
    if 'Fibrosis' in a.findings
  ]
  assert np.mean(['Fibrosis' in both for both in again]) > 0.5
  ap = {
    t: np.mean([e.view == 'AP' for e in plan if e.test == t]) for t in (0, 1)
  }
  assert ap[0] < 0.45 < ap[1]


def test_box_areas_are_in_the_manner_of_the_data_set(plan):
  # Medians of the data set's boxes, in per cent: facts about real films.
  real = {
    'Atelectasis': 1.9,
    'Cardiomegaly': 17.1,
    'Effusion': 5.6,
    'Infiltration': 5.7,
    'Mass': 1.5,
    'Nodule': 0.5,
    'Pneumonia': 5.7,
    'Pneumothorax': 3.6,
  }
  for finding, median in real.items():
    films = [e for e in plan if finding in e.findings][:24]
    areas = []
    for entry in films:
      alone = entry._replace(findings=(finding,))
      box = phantom.draw(alone, renderings=False).box[finding]
      areas.append(100 * (box[2] - box[0]) * (box[3] - box[1]))
    assert median / 2 < np.median(areas) < median * 2, (finding, areas)


# Errors


@pytest.mark.parametrize(
  'options, message',
  [
    ({'num_films': 5}, r'num_films \(5\) must be at least 20'),
    ({'image_size': 32}, r'image_size \(32\) must be at least 48'),
    ({'shortcut_amplitude': -1.0}, r'shortcut_amplitude \(-1.0\)'),
    ({'shortcut_prevalence': 1.5}, r'shortcut_prevalence \(1.5\)'),
    ({'workers': -1}, r'workers \(-1\)'),
  ],
)
def test_bad_options(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    phantom.write(tmp_path / 'phantom', **options)
  assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
  (tmp_path / 'mine.txt').write_text('mine')
  with pytest.raises(ValueError, match='exists already'):
    phantom.write(tmp_path)
  assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise OSError('disk full')

  monkeypatch.setattr(phantom, 'draw', fail)
  with pytest.raises(OSError, match='disk full'):
    phantom.write(tmp_path / 'a', num_films=20, workers=1, progress=False)
  assert not any(tmp_path.iterdir())


def test_command_line(tmp_path, capsys):
  dir, sheet = str(tmp_path / 'phantom'), tmp_path / 'sheet.png'
  phantom.main(
    [f'--dir={dir}', '--num_films=20', '--image_size=48', '--workers=1']
    + [f'--contact_sheet={sheet}']
  )
  assert sheet.stat().st_size > 10_000
  with pytest.raises(SystemExit):
    phantom.main([f'--dir={dir}'])
  assert 'exists already' in capsys.readouterr().err
