"""The functions that Python calls are those that the database has, with these parameters."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TypeAlias

import asyncpg
import pytest

from app import services
from app.postgres.functions import Function

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
FUNCTIONS = {
    value.name: value
    for module in iter_modules(services.__path__)
    for value in vars(import_module(f"app.services.{module.name}")).values()
    if isinstance(value, Function)
}
PARAMETERS = "SELECT pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname = $1"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
async def test_a_function_has_the_parameters_that_are_given_to_it(superuser: Connection, name: str) -> None:
    function = FUNCTIONS[name]
    given = [f"p_{parameter} {kind}" for parameter, kind in function.types.items()]
    given += ["p_wait boolean"] if function.key else []
    [found] = await superuser.fetch(PARAMETERS, name)
    assert found[0].replace("timestamp with time zone", "timestamptz") == ", ".join(given)


def test_each_has_a_version_in_its_name() -> None:
    assert len(FUNCTIONS) > 15
    assert all(name.rpartition("_v")[2].isdecimal() for name in FUNCTIONS)


def test_what_is_given_goes_to_the_parameter_of_that_name() -> None:
    function = Function("f_v1", "patient uuid, words text[], limit integer", key="patient")
    call = function(limit=3, patient="p")
    assert (call.arguments, call.key) == (("p", None, 3), "p")
    assert function.statement == "SELECT * FROM f_v1(p_patient => $1, p_words => $2, p_limit => $3, p_wait => $4)"
    assert (
        "p_words => string_to_array(p_words, E'\\n')::text[], p_limit => p_limit, p_wait => false" in function.grouped
    )


def test_a_parameter_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="f_v1 has no parameter patent"):
        Function("f_v1", "patient uuid")(patent="p")
