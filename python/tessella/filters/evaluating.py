"""Nodes over a table to bits: label questions from postings, comparisons of one column at once, the rest by polars.

An expression costs polars more to begin with (100 us beside other work) than 60,000 rows cost it then. So what is
one comparison of one column is none, and expressions that meet in an AND or OR become one.

A string column holds codes. A condition on it alone is asked of its few distinct values, and the rows are looked at
for the codes that passed, whatever the condition was.
"""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from tessella.attributes import View
from tessella.attributes.parts import Part
from tessella.bitmap import Words, clear_tail, full_words, joined, packed, unpacked, word_count
from tessella.errors import InvalidArgument
from tessella.filters.conditions import OPERATORS
from tessella.filters.lowering import Compared, Joined, Labelled, Measured, Named, Node, Scalar

_RANGES = 4  # of codes, that polars compares with; more are looked up code by code

# What a node comes to on one part: bits, an expression that polars may join with others first, or the same for
# all rows.
Found: TypeAlias = Words | pl.Expr | bool


def words_of(node: Node, view: View) -> Words:
    """The rows, in storage order, where the node is true."""
    pieces = [(_words(_found(node, part), part), part.rows) for part in view.parts]
    if not pieces:
        return np.zeros(0, np.uint64)
    words = joined(pieces)
    if view.places is None:
        return words
    held = unpacked(words, sum(part.rows for part in view.parts))
    return packed(held[view.places])


def bits_of(array: Any, rows: int) -> Words:
    """An Arrow array of bools as words, null as false; over its own memory where that has the form of words."""
    if array.offset:
        return packed(np.asarray(array.fill_null(False)))
    validity, values = array.buffers()
    words = _over(values, rows)
    if array.null_count:
        words = words & _over(validity, rows)
    if rows % 64 and int(words[-1]) >> (rows % 64):
        words = words.copy()
        clear_tail(words, rows)
    return words


def _found(node: Node, part: Part) -> Found:
    if isinstance(node, Joined):
        return _joined(node, part)
    if isinstance(node, Labelled | Measured):
        return _of_lists(node, part)
    if isinstance(node, Named):
        return _named(node, part)
    if isinstance(node, Compared):
        return _true_rows(OPERATORS[node.operator](part.frame[node.column], node.value))
    return _scalar(node, part)


def _joined(node: Joined, part: Part) -> Found:
    found = [_found(each, part) for each in node.nodes]
    if any(each is not node.every for each in found if isinstance(each, bool)):
        return not node.every
    exprs = [each for each in found if isinstance(each, pl.Expr)]
    words = [each for each in found if isinstance(each, np.ndarray)]
    if exprs:
        expr = functools.reduce(operator.and_ if node.every else operator.or_, exprs)
        if not words:
            return expr
        words.append(_run(expr, part.frame, part.rows))
    if not words:
        return node.every
    both: Words = (np.bitwise_and if node.every else np.bitwise_or).reduce(words, axis=0)
    return both


def _of_lists(node: Labelled | Measured, part: Part) -> Words:
    labels, lists = part.labels(node.column), part.lists(node.column)
    if isinstance(node, Labelled):
        having = labels.having(node.labels, all_of=node.all_of)
    else:
        having = labels.of_length(node.length)
    return lists & ~having if node.negated else lists & having


def _scalar(node: Scalar, part: Part) -> Found:
    coded = [name for name in node.columns if part.is_coded(name)]
    if node.row_by_row and node.lengths_alone:
        if not coded:
            return node.expr
        if len(node.columns) == 1:
            return _by_values(node.expr, coded[0], part)
    return _run(node.expr, part.with_decoded(node.columns), part.rows)


def _named(node: Named, part: Part) -> Found:
    if not part.is_coded(node.column):
        expr = pl.col(node.column).is_in(pl.Series(node.values))
        return ~expr if node.negated else expr
    places = part.places(node.column)
    named = sorted({places[value] for value in node.values if value in places})
    if not node.negated:
        return _in_ranges([(code, code) for code in named], node.column, part)
    bounds = [0, *named, len(places) + 1]  # code 0 is null, which is none of the values either way
    gaps = [(before + 1, after - 1) for before, after in itertools.pairwise(bounds) if after > before + 1]
    return _in_ranges(gaps, node.column, part)


def _by_values(expr: pl.Expr, name: str, part: Part) -> Found:
    """The rows whose value passes, looked up among the distinct values of a string column."""
    values = part.values[name]
    truth = unpacked(_run(expr, values.to_frame(), len(values)), len(values))
    edges = np.flatnonzero(np.diff(truth, prepend=False, append=False)).tolist()
    runs = [(first, after - 1) for first, after in zip(edges[::2], edges[1::2], strict=True)]
    return _in_ranges(runs, name, part)


def _in_ranges(ranges: list[tuple[int, int]], name: str, part: Part) -> Found:
    """The rows of a string column whose codes lie in one of these, first and last included."""
    count = len(part.values[name])
    if not ranges or ranges == [(0, count - 1)]:
        return bool(ranges)
    if len(ranges) <= _RANGES:
        codes = part.frame[name]
        return _true_rows(functools.reduce(operator.or_, (_in_range(codes, *ends) for ends in ranges)))
    truth = np.zeros(count, np.bool_)
    for first, last in ranges:
        truth[first : last + 1] = True
    return packed(truth[part.codes(name)])


def _in_range(codes: pl.Series, first: int, last: int) -> pl.Series:
    return codes == first if first == last else (codes >= first) & (codes <= last)


def _words(found: Found, part: Part) -> Words:
    if isinstance(found, pl.Expr):
        return _run(found, part.frame, part.rows)
    if isinstance(found, bool):
        return part.all_rows if found else np.zeros(word_count(part.rows), np.uint64)
    return found


def _run(expr: pl.Expr, frame: pl.DataFrame, rows: int) -> Words:
    """The rows of the frame where the expression is true."""
    try:
        columns = frame.select(expr).get_columns()
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument(f"where: expected a condition that fits the columns; polars says: {reason}") from error
    truth = columns[0]
    if len(columns) != 1 or truth.dtype not in (pl.Boolean, pl.Null) or len(truth) not in (1, rows):
        types = ", ".join(str(each.dtype) for each in columns)
        raise InvalidArgument(f"where: expected one bool for each of {rows} rows; got {len(truth)} of {types}")
    if truth.dtype == pl.Null:
        return np.zeros(word_count(rows), np.uint64)
    if len(truth) != rows:  # a constant
        return full_words(rows) if truth[0] is True else np.zeros(word_count(rows), np.uint64)
    return _true_rows(truth)


def _true_rows(truth: pl.Series) -> Words:
    return bits_of(truth.rechunk().to_arrow(), len(truth))


def _over(buffer: Any, rows: int) -> Words:
    """A buffer of bits as words; copied only where it ends before the last word does."""
    count = word_count(rows)
    if buffer.size >= 8 * count and buffer.address % 8 == 0:
        return np.frombuffer(buffer, np.uint64, count)
    words = np.zeros(count, np.uint64)
    source = np.frombuffer(buffer, np.uint8)[: 8 * count]
    words.view(np.uint8)[: len(source)] = source
    return words
