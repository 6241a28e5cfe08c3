"""
Which config keys a source file reads, found in its syntax tree.

A read is a chain of upper-case attributes. A chain that starts at ``cfg``, or at a local variable
that was assigned such a chain, names one key. A chain that starts at anything else (a function's
argument, say) may be below any node, so it counts for every key that ends as it does.
"""

import ast
from typing import Dict, List, Optional, Set, Tuple

Key = Tuple[str, ...]
Reads = Tuple[Set[Key], Set[Key]]


def _chain(node: ast.AST) -> Tuple[Optional[ast.AST], Key]:
    """(base, names) of ``base.A.B`` or ``base.A["B"]``, where names are upper-case."""
    if isinstance(node, ast.Attribute) and node.attr.isupper():
        base, names = _chain(node.value)
        return base, names + (node.attr,)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        if isinstance(node.slice.value, str) and node.slice.value.isupper():
            base, names = _chain(node.value)
            return base, names + (node.slice.value,)
    return node, ()


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.exact: Set[Key] = set()
        self.suffixes: Set[Key] = set()
        self.scopes: List[Dict[str, Key]] = [{}]

    def _resolve(self, node: ast.AST) -> Tuple[bool, Key]:
        base, names = _chain(node)
        if isinstance(base, ast.Name):
            for scope in reversed(self.scopes):
                if base.id in scope:
                    return True, scope[base.id] + names
            return base.id == "cfg", names
        return isinstance(base, ast.Attribute) and base.attr == "cfg", names

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scopes.append({})
        self.generic_visit(node)
        self.scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts))
            for name, value in pairs:
                self._bind(name, value)
            self.visit(target)

    def _bind(self, name: ast.AST, value: ast.AST) -> None:
        if isinstance(name, ast.Name):
            is_known, names = self._resolve(value)
            if is_known and names:
                self.scopes[-1][name.id] = names
            else:
                self.scopes[-1].pop(name.id, None)

    def _record(self, node: ast.expr) -> None:
        is_known, names = self._resolve(node)
        if names and isinstance(node.ctx, ast.Load):
            (self.exact if is_known else self.suffixes).add(names)
        base, own = _chain(node)
        if base is not None and own:
            self.visit(base)
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._record(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._record(node)


def config_reads(source: str) -> Reads:
    """
    Keys that a source file reads.

    Returns:
        (exact, suffixes): full keys, and ends of keys whose node is not known. A node that is read
        (to be passed on) is in them too.
    """
    reader = _Reader()
    reader.visit(ast.parse(source))
    return reader.exact, reader.suffixes


def is_read(key: Key, exact: Set[Key], suffixes: Set[Key]) -> bool:
    """Whether a key is read, or each node above it is and then something that ends as it does."""
    if key in exact:
        return True
    ends = [suffix for suffix in suffixes if key[-len(suffix) :] == suffix]
    return any(len(key) == len(end) or is_read(key[: -len(end)], exact, suffixes) for end in ends)
