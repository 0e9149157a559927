"""Functions of the database, called by name: each argument goes to the parameter that is named like it.

A function that Python calls has a version in its name, for a release that is being rolled out runs beside the one
before: another signature is another function.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

TOOK = "date_part('epoch', clock_timestamp() - statement_timestamp()) AS took"


@dataclass(frozen=True)
class Function:
    """A function of the database with the parameters that are given to it, as SQL declares them: `patient uuid`.

    `key`: the parameter whose values are served one after another, the patient whose diary is locked. Two calls with
    the same are in one statement or one after the other, and never wait for each other's lock. Such a function has a
    parameter `wait` more: whether to wait for a lock that somebody else holds, as it does where it goes alone. Where it
    must not, its first column may say `busy`.
    """

    name: str
    parameters: str
    key: str | None = None

    def __call__(self, **arguments: Any) -> "Call":
        """The call with these arguments, and NULL for the others."""
        if not self.types.keys() >= arguments.keys():
            raise TypeError(f"{self.name} has no parameter {', '.join(arguments.keys() - self.types.keys())}")
        return Call(self, tuple(map(arguments.get, self.types)))

    @cached_property
    def types(self) -> dict[str, str]:
        """The type of each parameter, in their order."""
        return dict(parameter.split() for parameter in self.parameters.split(", ") if parameter)

    @cached_property
    def place_of_key(self) -> int | None:
        """Where the key is among the arguments."""
        return None if self.key is None else list(self.types).index(self.key)

    @cached_property
    def statement(self) -> str:
        """The statement for one call."""
        return f"SELECT * FROM {self._with_places()}"  # noqa: S608 - names of ours

    @cached_property
    def timed(self) -> str:
        """The same; the last column is what it `took` up to this row, in seconds."""
        return f"SELECT *, {TOOK} FROM {self._with_places()}"  # noqa: S608 - names of ours

    @cached_property
    def grouped(self) -> str:
        """The statement for many, with an array of each argument; the last columns are the `place` of the call and what
        all up to this row `took`, in seconds.
        """
        arrays, values = [], []
        for place, (name, kind) in enumerate(self.types.items(), 1):
            arrays.append(f"${place}::{'text' if is_list(kind) else kind}[]")
            values.append((name, f"string_to_array(p_{name}, E'\\n')::{kind}" if is_list(kind) else f"p_{name}"))
        if self.key:
            values.append(("wait", "false"))
        columns = ", ".join(f"p_{name}" for name in self.types)
        return (
            f"SELECT answer.*, place, {TOOK} FROM unnest({', '.join(arrays)})"  # noqa: S608 - names of ours
            f" WITH ORDINALITY AS calls ({columns}, place), {self._with(values)} AS answer"
        )

    def _with_places(self) -> str:
        names = [*self.types, "wait"] if self.key else self.types
        return self._with((name, f"${place}") for place, name in enumerate(names, 1))

    def _with(self, values: Iterable[tuple[str, str]]) -> str:
        return f"{self.name}({', '.join(f'p_{name} => {value}' for name, value in values)})"


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, to be made."""

    function: Function
    arguments: tuple[Any, ...] = field(repr=False)  # health data

    @property
    def key(self) -> Any:
        """What the call is served one after another by, if it is."""
        place = self.function.place_of_key
        return None if place is None else self.arguments[place]


def is_list(kind: str) -> bool:
    """Lists travel as lines: an array of them would have to be rectangular."""
    return kind.endswith("[]")
