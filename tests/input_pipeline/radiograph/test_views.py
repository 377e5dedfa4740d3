"""How a film was taken and lies: names as found, turns pixel by pixel."""

import doctest

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from input_pipeline.radiograph import radiograph, views
from tests.input_pipeline.radiograph.made_films import dicom, save

PIXELS = np.arange(48).reshape(6, 8) * 80


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


def code(value, scheme, meaning=''):
  item = Dataset()
  item.CodeValue, item.CodeMeaning = value, meaning
  if scheme:
    item.CodingSchemeDesignator = scheme
  return Sequence([item])


def tilted():
  """A frontal view with the modifier caudad."""
  item = code('399348003', 'SCT')
  item[0].ViewModifierCodeSequence = code('399162004', 'SCT')
  return item


def test_examples():
  assert doctest.testmod(views).failed == 0


@pytest.mark.parametrize(
  'kind, texts',
  [
    # The standard's terms, then MIMIC-CXR's, PadChest's and vendors'.
    ('frontal', ('AP', 'PA', 'POSTEROANTERIOR', 'ANTEROPOSTERIOR', 'p.a.')),
    ('frontal', ('AP_horizontal', 'CHEST PA', 'Postero-anterior', 'FRONTAL')),
    ('frontal', ('AP PORTABLE', 'THORAX A.P.', 'PA ERECT', 'DE FACE')),
    ('lateral', ('LL', 'RL', 'LATERAL', 'XTABLE LATERAL', 'SWIMMERS', 'L')),
    ('lateral', ('LAT', 'L LAT', 'LLAT', 'LEFT LATERAL', 'PROFIL', 'PERFIL')),
    ('lateral', ('Thorax seitlich', 'LATERALE', 'LAT_ERECT')),
    ('oblique', ('RLO', 'LLO', 'LAO', 'RAO', 'LPO', 'RPO', 'OBLIQUE')),
    ('oblique', ('LATERAL OBLIQUE', 'OBLICUA', 'PA OBL')),
    ('decubitus', ('LLD', 'RLD', 'PA LLD', 'AP RLD')),
    ('decubitus', ('LEFT LATERAL DECUBITUS', 'DECUB')),
    # With digits, accents, both sides or a posture; in other languages.
    ('frontal', ('AP1', 'Antéro-postérieur', 'AP FLAT', 'CHEST AP BILAT')),
    ('frontal', ('AP DECUBITO SUPINO', 'dorsoventral', 'CORONAL')),
    ('frontal', ('正位', '后前位', 'ПРЯМАЯ')),
    ('lateral', ('L.L.', 'seitl.', 'boczne', '侧位', '側面', 'БОКОВАЯ')),
    ('oblique', ('schraeg', 'Oblíqua', 'OAD', '斜位')),
    ('decubitus', ('Dec lat', 'décubitus latéral')),
    ('special', ('Lordótica', 'costillas', 'Rippen', 'CEPHALAD')),
    (None, ('FLAT', 'BILAT', 'UNILATERAL')),
    ('special', ('AP AXIAL', 'LORDOTIC', 'AP LORDOTIC', 'COSTAL', 'APICAL')),
    (None, ('', 'UNKNOWN', 'GENERIC', 'EXCLUDE', 'CHEST', 'BILATERAL')),
  ],
)
def test_views_by_their_names(kind, texts):
  assert {text: views.view(text) for text in texts} == dict.fromkeys(
    texts, kind
  )


@pytest.mark.parametrize(
  'value, scheme, kind',
  [
    ('399067008', 'SCT', 'lateral'),
    ('399173006', 'SCT', 'lateral'),
    ('R-10232', 'SRT', 'lateral'),
    ('R-10236', 'SNM3', 'lateral'),
    ('R-102CD', '', 'lateral'),
    ('272479007', 'SCT', 'frontal'),
    ('R-10206', 'SRT', 'frontal'),
    ('399135007', 'SCT', 'oblique'),
    ('R-102C1', 'SRT', 'oblique'),
    ('399061009', 'SCT', 'special'),
    ('0', 'SCT', None),
  ],
)
def test_views_by_their_codes(value, scheme, kind):
  assert views._coded(code(value, scheme)[0]) == kind


def test_a_code_that_is_not_known_goes_by_its_meaning():
  assert views._coded(code('42', '99VENDOR', 'Left lateral')[0]) == 'lateral'


@pytest.mark.parametrize(
  'elements',
  [
    {'ViewPosition': 'LATERAL'},
    {'ViewPosition': 'L LAT'},
    {'ViewCodeSequence': code('399173006', 'SCT')},
    {'PatientOrientation': ['A', 'F']},
    {'PatientOrientation': ['P', 'F']},
    {'PatientOrientation': ['PL', 'F']},
  ],
)
def test_lateral_films_are_refused(path, elements):
  save(dicom(PIXELS, **elements), path)
  with pytest.raises(radiograph.RadiographError, match='lateral film'):
    radiograph.read(path, size=8)


@pytest.mark.parametrize(
  'elements, word',
  [
    ({'ViewPosition': 'LAO'}, 'oblique'),
    ({'ViewPosition': 'LLD'}, 'decubitus'),
    ({'ViewPosition': 'AP AXIAL'}, 'special angle'),
    ({'ViewCodeSequence': code('R-10220', 'SRT')}, 'oblique'),
    ({'PatientOrientation': ['LA', 'F']}, 'oblique'),
    ({'PatientOrientation': ['L', 'P']}, 'special angle'),
    ({'PatientOrientation': ['L', 'FA']}, 'special angle'),
    ({'SeriesDescription': 'W Chest Lat.'}, 'may be a lateral'),
    ({'ProtocolName': 'Thorax LLD'}, 'decubitus'),
    ({'ViewCodeSequence': tilted()}, 'special angle'),
    ({'ViewPosition': 'PA', 'PatientOrientation': ['A', 'F']}, 'calls'),
  ],
)
def test_other_views_are_warned_of(path, elements, word):
  save(dicom(PIXELS, **elements), path)
  warnings = radiograph.read(path, size=8).warnings
  assert any(word in warning for warning in warnings)


@pytest.mark.parametrize(
  'element, value',
  [
    ('ViewPosition', 'SOMETHING'),
    ('PatientOrientation', ['UNKNOWN', 'F']),
    ('ViewCodeSequence', code('42', '99VENDOR', 'something')),
  ],
)
def test_what_is_not_known_is_said(path, element, value):
  save(dicom(PIXELS, **{element: value}), path)
  film = radiograph.read(path, size=8)
  assert f'its {element} is not one that is known' in film.notes


@pytest.mark.parametrize(
  'elements, known',
  [
    ({}, False),
    # Of a whole study: it does not tell which of the two this film is.
    ({'SeriesDescription': 'CHEST PA AND LAT'}, False),
    ({'SeriesDescription': 'CHEST PA'}, True),
    ({'PatientOrientation': ['L', 'F']}, True),
  ],
)
def test_a_film_of_no_view_says_so(path, elements, known):
  save(dicom(PIXELS, **elements), path)
  film = radiograph.read(path, size=8)
  assert ('nothing in it says which view it is' in film.notes) != known
  assert not any('lateral' in warning for warning in film.warnings)


@pytest.mark.parametrize('sides', [['', ''], '', ['L', 'F']])
def test_upright_films_have_nothing_said(path, sides):
  save(dicom(PIXELS, PatientOrientation=sides, ViewPosition='PA'), path)
  film = radiograph.read(path, size=8)
  assert not any('Orientation' in text for text in film.notes + film.warnings)
  assert film.turn == views.Turn()


# Sides towards which rows and columns run, and the film so stored.
STORED = {
  ('R', 'F'): lambda film: film[:, ::-1],
  ('L', 'H'): lambda film: film[::-1],
  ('R', 'H'): lambda film: film[::-1, ::-1],
  ('F', 'L'): lambda film: film.T,
  ('F', 'R'): lambda film: film[:, ::-1].T,
  ('H', 'L'): lambda film: film[::-1].T,
  ('H', 'R'): lambda film: film[::-1, ::-1].T,
}


@pytest.mark.parametrize('sides', STORED)
def test_turned_films_are_the_upright_ones(path, sides):
  save(dicom(PIXELS, WindowCenter=2048, WindowWidth=4096), path)
  upright = radiograph.read(path, size=16)
  stored = STORED[sides](PIXELS)
  film = dicom(stored, PatientOrientation=list(sides))
  film.WindowCenter, film.WindowWidth = 2048, 4096
  save(film, path)
  turned = radiograph.read(path, size=16)
  np.testing.assert_array_equal(turned.image, upright.image)
  assert (turned.height, turned.width) == stored.shape
  assert any('was turned' in warning for warning in turned.warnings)


@pytest.mark.parametrize('fit', radiograph.FITS)
@pytest.mark.parametrize('sides', STORED)
def test_boxes_of_turned_films_are_in_stored_pixels(path, sides, fit):
  values = np.zeros((60, 40), int)
  values[20:30, 5:25] = 4000
  stored = STORED[sides](values)
  save(dicom(stored, PatientOrientation=list(sides)), path)
  film = radiograph.read(path, size=120, fit=fit)
  rows, columns = np.nonzero(film.image[..., 0] > 0.5)
  box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
  rows, columns = np.nonzero(stored)
  expected = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
  np.testing.assert_allclose(film.to_film_pixels(box / 120), expected, atol=0.5)
