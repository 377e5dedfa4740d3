"""The films of a config: refused where a split or the workdir does not fit."""

import pytest

from cxr import data
from input_pipeline.phantom import write


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
