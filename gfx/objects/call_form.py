"""Lets the code of a graph take and return objects, while the graph itself sees plain containers.

The code takes the objects among its inputs apart first, and puts those that it returns together
last. Passes, shapes and files know nothing of them: they read the graph.
"""

import inspect
import sys
from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen

from gfx.objects.object_form import ObjectForm, forms_in, parts_of, put_together

__all__ = ["CallForm", "PlainTracer", "call_form", "is_plain_call", "set_call_form", "stand_ins"]

_RETURNED, _GIVEN, _CLASS = "gfx_returned", "gfx_given", "gfx_class"


class CallForm(CodeGen):
    """Writes the code of a graph that takes or returns objects."""

    def __init__(
        self, inputs: tuple[ObjectForm | None, ...] = (), output: ObjectForm | None = None
    ) -> None:
        super().__init__()
        self.inputs = inputs  # by place; those beyond the last are plain
        self.output = output

    def gen_fn_def(self, free_vars: list[str], *args: Any, **kwargs: Any) -> str:
        """Begins with the inputs taken apart."""
        names = [v.split(":")[0].split("=")[0].strip() for v in free_vars if v != "self"]
        lines = [super().gen_fn_def(free_vars, *args, **kwargs)]
        for name, form in zip(names, self.inputs, strict=False):
            if form is not None:
                lines.append(f"    {name} = {_GIVEN}({name}, {self._text(form)})")
        return "\n".join(lines)

    def generate_output(self, output_args: Any, *args: Any, **kwargs: Any) -> str:
        """Ends with the output put together."""
        text = super().generate_output(output_args, *args, **kwargs)
        if self.output is None:
            return text
        return f"return {_RETURNED}({text.removeprefix('return ')}, {self._text(self.output)})"

    def process_inputs(self, *args: Any) -> Any:
        """Takes the inputs apart for an interpreter."""
        forms = [*self.inputs, *[None] * len(args)]
        pairs = zip(args, forms, strict=False)
        return tuple(x if form is None else parts_of(x, form) for x, form in pairs)

    def process_outputs(self, outputs: Any) -> Any:
        """Puts the output of an interpreter together."""
        return outputs if self.output is None else put_together(outputs, self.output)

    def additional_globals(self) -> list[tuple[str, Any]]:
        """Lists what the code calls."""
        named = [(_RETURNED, put_together), (_GIVEN, parts_of)]
        return named + [(f"{_CLASS}_{i}", kind) for i, kind in enumerate(self._imported())]

    def _imported(self) -> list[Any]:
        """Lists the classes that the code imports; torch is there anyway."""
        kinds = [f.kind for form in (*self.inputs, self.output) for f in forms_in(form)]
        own = [k for k in kinds if isinstance(k, type) and not _is_torch(k)]
        return list(dict.fromkeys(map(_outermost, own)))

    def _text(self, form: ObjectForm) -> str:
        """Writes a form as code."""
        kind: Any = form.kind
        if not isinstance(kind, type):
            text = repr(kind)
        elif _is_torch(kind):
            text = f"{kind.__module__}.{kind.__qualname__}"
        else:
            _, dot, rest = kind.__qualname__.partition(".")
            text = f"{_CLASS}_{self._imported().index(_outermost(kind))}{dot}{rest}"
        inside = "".join(f"({key!r}, {self._text(part)}), " for key, part in form.inside)
        return f"({text}, {form.build!r}, {form.context!r}, ({inside}))"


class PlainTracer(fx.Tracer):
    """Traces the code of a graph with a CallForm, as pickle does, into a graph that has it too."""

    def trace(self, root: Any, *args: Any, **kwargs: Any) -> fx.Graph:
        """Traces the code without the steps that take objects apart and put them together."""
        names = getattr(inspect.unwrap(type(root).forward), "__globals__", {})
        if not isinstance(root, torch.nn.Module) or _RETURNED not in names:
            return super().trace(root, *args, **kwargs)
        given: dict[int, ObjectForm] = {}
        returned: list[ObjectForm] = []
        places = list(inspect.signature(root.forward).parameters)

        def note_given(value: Any, form: Any) -> Any:
            given[places.index(value.node.target)] = _form(form)
            return value

        def note_returned(value: Any, form: Any) -> Any:
            returned.append(_form(form))
            return value

        names.update({_GIVEN: note_given, _RETURNED: note_returned})
        try:
            graph = super().trace(root, *args, **kwargs)
        finally:
            names.update({_GIVEN: parts_of, _RETURNED: put_together})
        inputs = tuple(given.get(i) for i in range(max(given, default=-1) + 1))
        graph._codegen = CallForm(inputs, returned[0] if returned else None)
        return graph


def call_form(graph: fx.Graph) -> CallForm:
    """Returns how a graph is called; one without forms where inputs and outputs are plain."""
    return graph._codegen if isinstance(graph._codegen, CallForm) else CallForm()


def is_plain_call(graph: fx.Graph) -> bool:
    """Whether the inputs of a graph are its placeholders, one by one, objects or not."""
    return isinstance(graph._codegen, CallForm) or type(graph._codegen) is CodeGen


def set_call_form(
    graph: fx.Graph, inputs: tuple[ObjectForm | None, ...] = (), output: ObjectForm | None = None
) -> None:
    """Sets how a graph is called. Its module is to be compiled afterwards.

    Example:
        >>> module = fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU()))
        >>> set_call_form(module.graph, output=ObjectForm(complex, "fields"))
        >>> call_form(module.graph).output
        ObjectForm(kind=<class 'complex'>, build='fields', context=(), inside=())
        >>> set_call_form(module.graph)
        >>> type(module.graph._codegen).__name__
        'CodeGen'
    """
    if output is None and not any(inputs):
        if isinstance(graph._codegen, CallForm):
            graph._codegen = CodeGen()
        return
    graph._codegen = CallForm(inputs, output)
    graph._tracer_cls = PlainTracer  # pickle traces the code again, with this class
    if graph.owning_module is not None:
        graph.owning_module._tracer_cls = PlainTracer


def stand_ins(graph: fx.Graph) -> list[str]:
    """Says what a graph returns in the place of objects whose classes were not imported.

    Example:
        >>> stand_ins(fx.Graph())
        []
    """
    what = "a dictionary with attributes"
    found = [
        f"{'a tuple of the same names' if form.build == 'tuple' else what} in the place of "
        f"{'.'.join(form.kind)}"
        for form in forms_in(call_form(graph).output)
        if isinstance(form.kind, tuple)
    ]
    return list(dict.fromkeys(found))


def _form(parts: Any) -> ObjectForm:
    """Makes a ObjectForm of what stands in code."""
    kind, build, context, inside = parts
    return ObjectForm(kind, build, context, tuple((key, _form(part)) for key, part in inside))


def _outermost(kind: type) -> Any:
    """Returns the class that holds a nested one: an import names no other."""
    first, dot, _ = kind.__qualname__.partition(".")
    return getattr(sys.modules[kind.__module__], first) if dot else kind


def _is_torch(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "torch"
