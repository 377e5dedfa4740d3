"""The films of a config: refused where a split or the workdir does not fit."""

import numpy as np
import pytest

from configs import default
from cxr import data
from input_pipeline import pipeline
from input_pipeline.findings import BOXED
from input_pipeline.phantom import write
from tests.input_pipeline import made_folder


@pytest.mark.parametrize('name', ['train', 'validation', 'test'])
def test_a_split_without_a_film_is_a_sentence(tiny_config, name, monkeypatch):
  splits = data.load(tiny_config)
  del splits[name]
  monkeypatch.setattr(data.pipeline, 'load', lambda *_, **__: splits)
  with pytest.raises(ValueError, match=f'No {name} film is there') as error:
    data.load(tiny_config)
  assert '\n' not in str(error.value)


def test_a_run_does_not_go_on_with_other_films(tiny_config, tmp_path):
  """As many of the same names, drawn otherwise; and the folder moved."""
  splits = data.load(tiny_config)
  workdir = str(tmp_path)
  data.check_same_films(workdir, splits)
  data.write_summary(workdir, tiny_config, splits)
  data.check_same_films(workdir, splits)
  write.write_phantom(
    tmp_path / 'other',
    num_films=60,
    image_size=48,
    seed=1,
    workers=1,
    progress=False,
  )
  other = tiny_config.copy_and_resolve_references()
  other.data.dir = str(tmp_path / 'other')
  with pytest.raises(ValueError, match='a run on other train films'):
    data.check_same_films(workdir, data.load(other))


def test_all_true_boxes_of_a_film_come_from_the_box_file(tmp_path):
  name, other = made_folder.TEST[:2]
  made_folder.layout(
    tmp_path / 'films',
    size=32,
    boxes=[
      f'{name},Cardiomegaly,256,512,128,256',
      f'{name},Mass,0,0,512,512',
      f'{name},Cardiomegaly,0,0,256,128',
      f'{name},Cardiomegaly,512,0,256,128',
      f'{other},Mass,0,0,512,256',
    ],
  )
  splits = pipeline.load(
    tmp_path / 'films',
    image_size=32,
    prepared_dir=tmp_path / 'prepared',
    validation_fraction=0.3,
  )
  films = data.boxed_films(splits['test'])
  assert films.name.tolist() == [name, other]
  heart, mass = BOXED.index('Cardiomegaly'), BOXED.index('Mass')
  np.testing.assert_array_equal(
    films.truth[0, heart],
    [[0.5, 0.25, 0.75, 0.375], [0, 0, 0.125, 0.25], [0, 0.5, 0.125, 0.75]],
  )
  np.testing.assert_array_equal(films.truth[0, mass, 0], [0, 0, 0.5, 0.5])
  np.testing.assert_array_equal(films.truth[1, mass, 0], [0, 0, 0.25, 0.5])
  assert np.isfinite(films.truth).all(axis=-1).sum() == 5
  np.testing.assert_array_equal(films.boxed.sum(axis=0)[[heart, mass]], [1, 2])
  # What the label file says, which knows of no Mass.
  assert films.label[0, heart] == 1 and films.label[0, mass] == 0


def labelled(label, findings, boxes=(), boxed=()):
  """A split of films without pixels; boxes are (film, finding's index)."""
  n = len(label)
  film, finding = np.array(boxes, np.int64).reshape(-1, 2).T
  return pipeline.Split(
    name='train',
    image=np.zeros((n, 4, 4, 1), np.uint8),
    label=np.array(label, np.float32),
    image_name=np.array([f'{i}.png' for i in range(n)]),
    patient=np.arange(n),
    view=np.full(n, ''),
    age=np.full(n, np.nan),
    sex=np.full(n, ''),
    box=np.tile([0.0, 0.0, 0.5, 0.5], (len(film), 1)),
    box_image=film,
    box_finding=finding,
    findings=findings,
    boxed=boxed,
  )


def test_other_films_get_the_columns_of_a_run():
  nan = np.nan
  split = labelled(
    [[0, 1, 1], [1, nan, 0]],
    ('Gout', 'Pleural Effusion', 'Mass'),
    boxes=[(0, 1), (0, 2), (1, 0), (1, 1)],
    boxed=('Gout', 'Pleural Effusion', 'Mass'),
  )
  split = split._replace(
    reader=np.stack([split.label, 1 - split.label]),
    reader_names=('first', 'second'),
    mask=np.ones((2, 4, 4), bool),
    mask_image=np.array([1, 1]),
    mask_finding=np.array([0, 2]),
  )
  run = 'Mass', 'Edema', 'Effusion'
  test = data.with_findings({'test': split}, run)['test']
  assert test.findings == run and test.boxed == ('Mass', 'Effusion')
  np.testing.assert_array_equal(test.label, [[1, nan, 1], [0, nan, nan]])
  # The box of Gout is gone.
  assert test.box_finding.tolist() == [2, 0, 2]
  assert test.box_image.tolist() == [0, 0, 1]
  np.testing.assert_array_equal(test.reader[0], test.label)
  np.testing.assert_array_equal(test.reader[1], 1 - test.label)
  assert test.mask_finding.tolist() == [0] and len(test.mask) == 1
  films = data.boxed_films(test)
  assert films.findings == ('Mass', 'Effusion')
  # Film 1 has a mask of Mass.
  np.testing.assert_array_equal(films.boxed, [[1, 1], [1, 1]])
  assert [*films.masks] == [(1, 0)]
  np.testing.assert_array_equal(films.label, [[1, 1], [0, nan]])
  # Of the same findings nothing is touched.
  same = {'test': test}
  assert data.with_findings(same, run) is same
  with pytest.raises(ValueError, match='they share no finding') as error:
    data.with_findings({'test': split}, ('Hernia',))
  assert '--config.data.synonyms' in str(error.value)


def test_a_finding_needs_films_of_both_kinds(tmp_path):
  config = default.get_config('smoke')
  config.data.dir = str(tmp_path)
  names = 'Bulla', 'Clavicle', 'Dilatation', 'Ectasia'
  nan = np.nan
  split = labelled([[1, 0, 0, nan], [0, 0, 1, nan], [0, nan, nan, 1]], names)
  assert data.without_both_kinds(split) == (
    'no positive film of Clavicle and no negative film of Ectasia'
  )
  unknown = split._replace(label=np.where(split.label == 1, nan, split.label))
  assert data.without_both_kinds(unknown) == (
    'no labelled film of Ectasia and no positive film of Bulla, Clavicle, '
    'Dilatation'
  )
  config.data.source = 'table'
  with pytest.raises(ValueError, match='no positive film of Clav') as error:
    data.check_both_kinds(config, split)
  text = str(error.value)
  assert '\n' not in text
  assert """--config.data.findings="('Bulla', 'Dilatation',)".""" in text
  # NIH's findings are not chosen by the user, whose part may lack one.
  config.data.source = 'nih'
  data.check_both_kinds(config, split)
  config.data.source = 'table'
  data.check_both_kinds(config, labelled([[1], [0]], ('Bulla',)))
  with pytest.raises(ValueError, match='add films of both kinds'):
    data.check_both_kinds(config, labelled([[1], [1]], ('Bulla',)))


def test_a_run_does_not_go_on_with_other_findings(tiny_config, tmp_path):
  splits = data.load(tiny_config)
  data.write_summary(str(tmp_path), tiny_config, splits)
  other = {
    name: split._replace(findings=split.findings[::-1])
    for name, split in splits.items()
  }
  with pytest.raises(ValueError, match='other findings .* --workdir or'):
    data.check_same_films(str(tmp_path), other)


@pytest.mark.parametrize('name', ['mean', ' ', 'a\nb'])
def test_names_that_the_tables_need_are_refused(name, tiny_config, monkeypatch):
  splits = data.load(tiny_config)
  other = pipeline.Splits(
    {k: s._replace(findings=(name, *s.findings[1:])) for k, s in splits.items()}
  )
  other.left_out = {}
  monkeypatch.setattr(data.pipeline, 'load', lambda *_, **__: other)
  with pytest.raises(ValueError, match='A finding cannot be called'):
    data.load(tiny_config)
