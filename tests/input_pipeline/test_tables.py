"""Tables as spreadsheets, pandas and people leave them."""

import csv
import doctest
import gzip
import io
import math
import tracemalloc

import pytest

from input_pipeline import findings, run_lengths, tables
from input_pipeline.sources import cells, nih_tables
from input_pipeline.sources.film_table import Box
from tests.input_pipeline.made_folder import (
  BOX_HEADER,
  HEADER,
  TEST,
  TRAIN,
  layout,
  read,
  reasons,
  rows,
)

COLUMNS = {'film': ('Image Index',), 'age': ('Patient Age', 'Age')}


def text(*rows, separator=',', end='\n', header=True, **options):
  """A csv file's text, as csv.writer makes it."""
  out = io.StringIO(newline='')
  writer = csv.writer(out, delimiter=separator, lineterminator=end, **options)
  writer.writerows(rows)
  return out.getvalue()


def read_table(tmp_path, data, columns=COLUMNS, **options):
  path = tmp_path / 'table.csv'
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return [row for _, row in tables.read_table(path, columns, **options)]


@pytest.mark.parametrize(
  'module', [findings, tables, nih_tables, cells, run_lengths]
)
def test_examples(module):
  assert doctest.testmod(module).attempted
  assert not doctest.testmod(module).failed


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize(
  'encoding',
  ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'cp1252'],
)
@pytest.mark.parametrize('quoting', [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_the_same_table_in_every_dress(
  tmp_path, separator, end, encoding, quoting
):
  """An index column, other order, trailing blank cells and lines, a cell with
  each separator, a name in another alphabet's letters."""
  table = [
    ['', 'Ünit', ' patient AGE ', 'image_index', ''],
    ['0', 'a;b,c\td', '1,5', 'x', ''],
    [],
    ['1', 'é', '45.0', ' y ', ''],
    ['', '', '', '', ''],
  ]
  data = text(*table, separator=separator, end=end, quoting=quoting)
  assert read_table(tmp_path, data.encode(encoding)) == [
    {'film': 'x', 'age': '1,5'},
    {'film': 'y', 'age': '45.0'},
  ]


def test_packed_by_gzip(tmp_path):
  data = gzip.compress('Image Index;Age\nx;1,5\nÜ;\n'.encode())
  assert read_table(tmp_path, data) == [
    {'film': 'x', 'age': '1,5'},
    {'film': 'Ü', 'age': ''},
  ]
  with pytest.raises(ValueError, match='packed by gzip and damaged'):
    read_table(tmp_path, data[:-9])
  flipped = bytearray(data)
  flipped[len(data) // 2] ^= 255
  with pytest.raises(ValueError, match='packed by gzip and damaged'):
    read_table(tmp_path, bytes(flipped))
  with pytest.raises(ValueError, match='not a text file'):
    read_table(tmp_path, gzip.compress(b'Image Index,Age\nx\0,1\n'))


def test_a_table_is_not_held_in_memory(tmp_path):
  path = tmp_path / 'table.csv'
  with gzip.open(path, 'wt', compresslevel=1) as f:
    f.write('Image Index,Report\n')
    for _ in range(20_000):
      f.write(f'x,{"words " * 100}\n')  # 12 MB
  tracemalloc.start()
  count = sum(1 for _ in tables.read_table(path, {'film': ('Image Index',)}))
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert count == 20_000
  # A MiB of text at a time, as bytes and as characters.
  assert peak < 6e6


def test_excels_own_line_is_obeyed(tmp_path):
  data = 'sep=;\r\nImage Index;Age\r\nx;1,5\r\n'
  assert read_table(tmp_path, data) == [{'film': 'x', 'age': '1,5'}]


def test_a_column_that_is_absent(tmp_path):
  assert read_table(tmp_path, 'Image Index\nx\n', optional={'age'}) == [
    {'film': 'x', 'age': ''}
  ]
  with pytest.raises(ValueError, match=r"table.csv has no column 'Patient Age"):
    read_table(tmp_path, 'Image Index\nx\n')


def test_the_header_as_it_stands(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('image;Lung Opacity;a,b,c\nx;1;0\n')
  assert tables.header(path, ('Image',)) == ['image', 'Lung Opacity', 'a,b,c']
  path.write_text('')
  assert tables.header(path, ('Image',)) == []


@pytest.mark.parametrize(
  'data, message',
  [
    ('Image Index,Age,Age\nx,1,2\n', "column 'Age' twice"),
    ('Image Index,Age\nx,1,2\n', 'line 2: 3 fields do not fit'),
    ('Image Index,Age\nx\n', 'line 2: 1 fields do not fit'),
    ('Image Index,Age\n"x,1\n', 'line 2'),
    (b'PK\x03\x04 a spreadsheet', 'not a text file'),
    (b'Image Index,Age\nx\0,1\n', 'not a text file'),
  ],
)
def test_what_is_no_table_stops_in_a_sentence(tmp_path, data, message):
  with pytest.raises(ValueError, match=message) as error:
    read_table(tmp_path, data)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'cell, number',
  [
    ('12', 12), ('12.5', 12.5), ('12,5', 12.5), ('.5', 0.5), ('5.', 5),
    ('1e2', 100), ('1E-2', 0.01), ('-3', -3), (' 7 ', 7), ('512,125', 512.125),
    ('1,024', math.nan), ('1.024,5', math.nan), ('25%', math.nan),
    ('nan', math.nan), ('inf', math.nan), ('', math.nan), ('1 024', math.nan),
    ('1_0', math.nan), ('٣', math.nan), ('05.Okt', math.nan),
  ],
)  # fmt: skip
def test_numbers(cell, number):
  assert tables.number(cell) == pytest.approx(number, nan_ok=True)


# --- NIH's tables


@pytest.mark.parametrize(
  'cell, age',
  [
    ('58', 58), ('058Y', 58), ('018M', 1.5), ('045Y', 45), ('45.0', 45),
    ('45,0', 45), ('1,5', 1.5), ('45.0Y', 45), ('58 years', 58), ('58 y', 58),
    ('58yrs', 58), ('6 months', 0.5), ('730D', 730 / 365.25), ('120', 120),
    ('412', math.nan), ('121Y', math.nan), ('', math.nan), ('-1', math.nan),
    ('old', math.nan), ('٣', math.nan), ('90+', math.nan), ('5Z', math.nan),
  ],
)  # fmt: skip
def test_ages(cell, age):
  assert cells.age(cell) == pytest.approx(age, nan_ok=True)


@pytest.mark.parametrize(
  'parse, cells, value',
  [
    (cells.sex, ('M', 'm', 'Male', 'MALE ', ' male.'), 'M'),
    (cells.sex, ('F', 'f', 'female', 'Woman', 'Femme'), 'F'),
    (cells.sex, ('männlich', 'Males', 'hombre'), 'M'),
    (cells.sex, ('', 'O', 'U', '1', 'fm', 'nan', 'X'), ''),
    (cells.view, ('PA', 'pa ', 'Posteroanterior', 'PA view'), 'PA'),
    (cells.view, ('ap', 'AP_SUPINE', 'antero-posterior'), 'AP'),
    (cells.view, ('', 'LATERAL', 'PA/AP', 'paper', 'LL'), ''),
  ],
)
def test_words(parse, cells, value):
  assert {cell: parse(cell) for cell in cells} == dict.fromkeys(cells, value)


def test_labels():
  parse = nih_tables.parse_labels
  assert parse('No Finding') == parse('no_finding') == ()
  assert parse('Nodule|Mass') == parse('Mass; Nodule') == (4, 5)
  assert parse('Infiltrate') == parse('Infiltration')
  assert parse('Pleural Thickening') == (12,)


@pytest.mark.parametrize(
  'labels, message',
  [
    ('No Finding|Mass', 'contradict'),
    ('Mass|Mass', 'twice'),
    ('', 'no label'),
    ('Mass|', 'is not a finding'),
    ('Pnuemonia', "nearest is 'Pneumonia'"),
  ],
)
def test_bad_labels_stop_with_file_and_line(tmp_path, labels, message):
  table = '\n'.join([HEADER, *rows(labels={TRAIN[1]: labels})])
  layout(tmp_path, table=table, films=[])
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path)
  assert 'v2020.csv, line 3, 00000001_001.png' in str(error.value)
  assert '\n' not in str(error.value)


def test_cells_that_are_not_understood_are_counted(tmp_path):
  """Of the films that are there; an empty cell is no cell."""
  cells = [',90+,male,LATERAL,', ',,,,', ',nan,X,pa,', ',45.0,F ,AP,']
  names = TRAIN[:4]
  table = [HEADER, *rows([n for n in TRAIN + TEST if n not in names])]
  table += [
    f'{name},No Finding,0,{int(name[:8])}.0{cell}1,1,1,1'
    for name, cell in zip(names, cells, strict=True)
  ]
  layout(tmp_path, table='\n'.join(table), films=TRAIN[:4] + TEST)
  found = read(tmp_path)
  assert [r for r in reasons(found) if 'understood' in r[1]] == [
    (TRAIN[0], 'age not understood'),
    (TRAIN[0], 'view not understood'),
    (TRAIN[2], 'sex not understood'),
  ]
  entries = {f.image: f for fs in found.films.values() for f in fs}
  assert entries[TRAIN[0]].sex == 'M' and entries[TRAIN[2]].view == 'PA'
  assert entries[TRAIN[3]][4:7] == ('AP', 45.0, 'F')


@pytest.mark.parametrize(
  'boxes',
  [
    f'{BOX_HEADER}\n{TEST[0]},Mass,225.5,10,86.25,79\n',
    f'{BOX_HEADER}\n{TEST[0]},Mass,225.5,10,86.25,79\n'.replace(',', ';'),
    # Where commas are decimal: as Excel saves it, and with the header whole.
    f'Image Index;Finding Label;Bbox [x;y;w;h];;;\n'
    f'{TEST[0]};Mass;225,5;10;86,25;79;;;\n',
    f'Image Index;Finding Label;Bbox [x,y,w,h];;;\n'
    f'{TEST[0]};Mass;225,5;10,0;86,25;79;;;\n',
    f'"Image Index","Finding Label","Bbox [x,y,w,h]",,,\n'
    f'"{TEST[0]}","Mass","225,5","10","86,25","79"\n',
    # pandas: an index, and names for the columns that had none.
    ',Image Index,Finding Label,Bbox [x,y,w,h],Unnamed: 6,Unnamed: 7\n'
    f'0,{TEST[0]},Mass,225.5,10.0,86.25,79.0,,\n',
    f'H,W,X,Y,finding label,IMAGE INDEX\n79,86.25,225.5,10,mass,{TEST[0]}\n',
    f'Image Index\tFinding Label\tx\ty\tw\th\r'
    f'images/{TEST[0]}\tMass\t225.5\t10\t86.25\t79\r',
  ],
)
def test_boxes_in_every_dress(tmp_path, boxes):
  path = tmp_path / 'boxes.csv'
  path.write_text(boxes)
  found, left_out = nih_tables.read_boxes(path)
  box = (10, 225.5, 89, 311.75)
  assert found == {TEST[0]: [Box(4, box)]}
  assert left_out == []


def test_boxes_in_shares_are_counted(tmp_path):
  path = tmp_path / 'boxes.csv'
  path.write_text(
    f'{BOX_HEADER}\n{TEST[0]},Mass,22%,1%,8%,7%\n'
    f'{TEST[0]},Mass,.22,.01,.08,.07\n'
  )
  assert nih_tables.read_boxes(path)[1] == [
    (TEST[0], 'box without four numbers', '22%, 1%, 8%, 7%'),
    (TEST[0], 'box not in pixels of 1024', '.22, .01, .08, .07'),
  ]


@pytest.mark.parametrize(
  'data',
  [
    '\n'.join(TEST),
    '\ufeff' + '\r\n'.join(TEST) + '\r\n\r\n',
    '\r'.join(TEST),
    '\n'.join(TEST).encode('utf-16'),
    '\n'.join(TEST).encode('utf-16-le'),
    '\n'.join(f'"{name}"' for name in TEST),
    '\n'.join(f'{name},,' for name in TEST) + '\n,,\n',
    '\n'.join(f'{name};' for name in TEST),
    'Image Index\n' + '\n'.join(TEST),
    ',0\n' + '\n'.join(f'{k},{name}' for k, name in enumerate(TEST)),
    ';Image Index\n' + '\n'.join(f'{k};{n}' for k, n in enumerate(TEST)),
    '\n'.join(f'images_001/images/{name}' for name in TEST),
    '\n'.join(f'C:\\films\\{name}' for name in TEST),
    '\n'.join(f"'{name}" for name in TEST),
    text(*([f'="{name}"'] for name in TEST)),
    '\n'.join(f'\u200b{name}\u00a0' for name in TEST),
  ],
)
def test_lists_in_every_dress(tmp_path, data):
  path = tmp_path / 'list.txt'
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  assert nih_tables.read_list(path) == TEST


@pytest.mark.parametrize(
  'lines, message',
  [
    (['a remark', *TEST], "line 1 names 'a remark'"),
    ([*TEST, 'Image Index'], "line 5 names 'Image Index'"),
    ([f'{TEST[0]},{TEST[1]}'], 'names 2 films'),
    ([TEST[0], f'images/{TEST[0]}'], 'lists 1 films twice'),
    (['Image Index'], 'lists no film'),
    (['0000001_000.png', *TEST], 'names'),
  ],
)
def test_lists_that_stop(tmp_path, lines, message):
  path = tmp_path / 'list.txt'
  path.write_text('\n'.join(lines))
  with pytest.raises(ValueError, match=message):
    nih_tables.read_list(path)
