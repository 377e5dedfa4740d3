"""Tables: what is copied, what filters hide, and the same in Markdown."""

from cxr.reporting import tables


def test_copied_text_is_no_formula():
  assert tables.text_cell('=1+1').copied == ("'=1+1",)
  assert tables.text_cell('a\tb\n').copied == ('a b',)


def test_filters_hide_rows_before_the_script():
  always = tables.text_cell('all of them', choice='*')
  rows = [{'finding': value} for value in ('mean', 'Mass', always)]
  table = tables.table('t', 'T', rows)
  (chosen,) = tables.group([table], {'finding': 'mean'}).filters
  assert [chosen.hides(row) for row in table.rows] == [False, True, False]
  assert chosen.choices == ('mean', 'Mass', '')


def test_a_filter_of_one_choice_is_left_out():
  table = tables.table('t', 'T', [{'finding': 'mean'}, {'finding': 'mean'}])
  assert not tables.group([table], {'finding': 'Mass'}).filters
  assert tables.group([None], {'finding': 'Mass'}) is None


def test_a_table_is_the_same_in_markdown():
  estimate = {'value': 0.5, 'low': 0.4, 'high': 0.6}
  undefined = {'value': None, 'why': 'no film'}
  text = tables.markdown(
    [{'a': '<x> | y', 'b': estimate}, {'a': 1234, 'b': undefined}]
  )
  assert text.splitlines() == [
    '| a | b |',
    '| --- | --- |',
    '| &lt;x> \\| y | 0.500 (0.400 to 0.600) |',
    '| 1,234 | – (no film) |',
  ]
  assert tables.markdown([]) == ''
