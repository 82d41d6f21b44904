"""How a new version takes over, and what bounds the bill."""

import json
import re
from typing import Any

from handler.canary import ANSWER_SECONDS, ATTEMPTS, GOLDEN, PAUSE_SECONDS
from lifecycle.local.containers import FUNCTION
from tests.infrastructure.stack import Stack
from tests.infrastructure.test_functions import CHECK, WORKER, version_of


def output(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": ["Observability", f"Outputs.{name}"]}


def test_a_new_version_is_checked_before_it_takes_over(stack: Stack) -> None:
    alias = stack.template["Resources"][f"{FUNCTION}Aliaslive"]
    assert alias["UpdatePolicy"] == {
        "CodeDeployLambdaAliasUpdate": {
            "ApplicationName": {"Ref": "ServerlessDeploymentApplication"},
            "DeploymentGroupName": {"Ref": f"{FUNCTION}DeploymentGroup"},
            "BeforeAllowTrafficHook": {"Ref": CHECK},
        }
    }
    check = stack.properties(CHECK)
    assert check["ImageConfig"] == {"Command": ["handler.canary.handler"]}
    assert check["Environment"] == {"Variables": {"NEW_VERSION": {"Ref": version_of(stack)}}}
    # Nobody waits for the worker, and what it cannot do comes back.
    assert "UpdatePolicy" not in stack.template["Resources"][f"{WORKER}Aliaslive"]


def test_the_golden_prompt_is_within_all_limits_and_its_attempts_within_the_timeout(default_stack: Stack) -> None:
    smallest = {name: each.get("MinValue", 0) for name, each in default_stack.template["Parameters"].items()}
    # A token holds at least a byte.
    assert smallest["MaxPromptTokens"] >= len(GOLDEN["prompt"].encode())
    assert smallest["MaxTokens"] >= GOLDEN["max_tokens"]
    assert default_stack.properties(CHECK)["Timeout"] >= ATTEMPTS * (ANSWER_SECONDS + PAUSE_SECONDS)


def test_alarms_stop_a_version_that_takes_over_gradually(stack: Stack) -> None:
    group = stack.properties(f"{FUNCTION}DeploymentGroup")
    shift = stack.parameters["TrafficShift"]
    assert group["DeploymentConfigName"] == {
        "Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": shift}]
    }
    alarms = [{"Name": output("ApiErrors")}, {"Name": output("ApiFunctionErrors")}]
    gradual = {"Enabled": True, "Alarms": alarms}
    assert group["AlarmConfiguration"] == ({} if shift == "AllAtOnce" else gradual)
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert {"ApiErrors", "ApiFunctionErrors"} <= set(stack.nested["Observability"].template["Outputs"])


def test_the_api_is_bounded_where_somebody_bounds_it(stack: Stack) -> None:
    bounded = stack.parameters["MaxConcurrency"] != "0"
    reserved = stack.properties(FUNCTION).get("ReservedConcurrentExecutions")
    assert reserved == ({"Ref": "MaxConcurrency"} if bounded else None)
    # The queues bound the worker themselves, without throttling what they poll for.
    assert "ReservedConcurrentExecutions" not in stack.properties(WORKER)


def test_nothing_that_costs_is_on_unless_asked_for(default_stack: Stack) -> None:
    names = ("TrafficShift", "MaxConcurrency", "AlarmEmail", "MonthlyBudget")
    assert [default_stack.parameters[name] for name in names] == ["AllAtOnce", "0", "", "0"]


def test_nested_stacks_are_given_what_they_ask_for(stack: Stack) -> None:
    assert_are_given_what_they_ask_for(stack)


def test_those_of_a_gpu_service_are_given_what_they_ask_for(gpu_stack: Stack) -> None:
    assert_are_given_what_they_ask_for(gpu_stack)


def assert_are_given_what_they_ask_for(stack: Stack) -> None:
    """That every stack is handed the parameters it has no default for, and gives others what they ask it for."""
    for member in stack.family:
        asked = re.findall(r'"Fn::GetAtt": \["(\w+)", "Outputs\.(\w+)"\]', json.dumps(member.template))
        asked_of_others = {(name, output) for name, output in asked if name in member.nested}
        assert len(asked_of_others) == len(set(asked))
        missing = [each for each in asked_of_others if each[1] not in member.nested[each[0]].template["Outputs"]]
        assert missing == []
        for name, nested in member.nested.items():
            given = set(member.properties(name)["Parameters"])
            parameters = nested.template["Parameters"]
            assert {parameter for parameter, each in parameters.items() if "Default" not in each} <= given
            assert given <= set(parameters)
