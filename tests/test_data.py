"""The films of a config: refused where a split or the workdir does not fit."""

import numpy as np
import pytest

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
