"""Rules: EQL queries with Elasticsearch's meaning, and the files they come in.

from sensor.rules import compile_query

compile_query('process where process.args : "*secret*"').matches(document)
"""

from __future__ import annotations

from sensor.rules.compile import Query, compile_ast, compile_query

__all__ = ["Query", "compile_ast", "compile_query"]
