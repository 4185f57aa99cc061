"""Whatever the server's own OpenAPI description allows, and some that it does not, is answered without a fault."""

from __future__ import annotations

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from tests.serve.conftest import Served


def test_nothing_that_is_sent_makes_a_fault(served: Served) -> None:
    schema = schemathesis.openapi.from_url(served.url + "/openapi.json")
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]:

            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            @hypothesis.settings(
                max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
            )
            def check(case: schemathesis.Case) -> None:
                response = case.call(timeout=60)
                case.validate_response(response, checks=[not_a_server_error])
                seen.add((case.path, response.status_code))

            check()
    assert {path for path, _ in seen} == set(schema.raw_schema["paths"])
    served.wait_until_idle()
