"""Who may call, and what may be touched: the invariants of security, whatever the parameters."""

import pytest

from tests.infrastructure.stack import JWT, PRIVATE, Stack, holds, stacks, stacks_of

OPEN = {"GET /", "GET /docs", "GET /docs/{proxy+}", "GET /openapi.json", "GET /healthz", "GET /readyz"}


def test_every_route_asks_for_credentials_unless_it_is_on_the_open_list(stack: Stack) -> None:
    mode = stack.parameters["AuthMode"]
    closed = {
        # With api-key the gateway passes everything on, and the function checks: see the next test.
        "api-key": ("NONE", None),
        "jwt": ("JWT", {"Ref": "JwtAuthorizer"}),
        "iam": ("AWS_IAM", None),
    }
    expected = {"$default": closed[mode]} | dict.fromkeys(OPEN, ("NONE", None))
    if stack.parameters["AllowedOrigins"]:
        expected["OPTIONS /{proxy+}"] = ("NONE", None)
    routes = [route["Properties"] for route in stack.of_type("AWS::ApiGatewayV2::Route").values()]
    assert {route["RouteKey"]: (route["AuthorizationType"], route.get("AuthorizerId")) for route in routes} == expected


def test_function_checks_keys_exactly_where_the_gateway_checks_nothing(stack: Stack) -> None:
    variables = stack.properties("ApiFunction")["Environment"]["Variables"]
    assert variables["AUTH_MODE"] == {"Ref": "AuthMode"}
    assert variables["KEYS_TABLE"] == {"Ref": "KeysTable"}


def test_there_is_no_open_mode(default_stack: Stack) -> None:
    parameter = default_stack.template["Parameters"]["AuthMode"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("api-key", ["api-key", "jwt", "iam"])


def test_nothing_else_is_public(stack: Stack) -> None:
    kinds = {resource["Type"] for resource in stack.template["Resources"].values()}
    assert "AWS::ElasticLoadBalancingV2::LoadBalancer" not in kinds
    for nested in stack.family[1:]:
        assert not nested.of_type("AWS::Lambda::Function")
    # What streams is another file's.
    permissions = {
        name: each["Properties"]
        for name, each in stack.of_type("AWS::Lambda::Permission").items()
        if not name.startswith("Stream")
    }
    api = {"FunctionName": {"Ref": "ApiFunctionAliaslive"}, "Action": "lambda:InvokeFunction"}
    assert permissions == {
        "ApiInvokePermission": {
            **api,
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${HttpApi}/*"},
        },
        "WarmUpPermission": {
            **api,
            "Principal": "events.amazonaws.com",
            "SourceArn": {"Fn::GetAtt": ["WarmUpRule", "Arn"]},
        },
    }


def test_tokens_are_checked_against_issuer_and_audience() -> None:
    assert stacks()["jwt"].properties("JwtAuthorizer") == {
        "ApiId": {"Ref": "HttpApi"},
        "Name": "jwt",
        "AuthorizerType": "JWT",
        "IdentitySource": ["$request.header.Authorization"],
        "JwtConfiguration": {
            "Issuer": {"Ref": "JwtIssuer"},
            "Audience": {"Fn::Split": [",", {"Ref": "JwtAudience"}]},
        },
    }


# Parameters, and what is said of them.
NEEDS: list[tuple[dict[str, str], list[str]]] = [
    ({"AuthMode": "jwt", **JWT}, []),
    ({"AuthMode": "jwt", **JWT, "JwtIssuer": ""}, ["AuthMode=jwt needs JwtIssuer, an https URL"]),
    ({"AuthMode": "jwt", **JWT, "JwtAudience": ""}, ["AuthMode=jwt needs JwtAudience, at least one audience"]),
    ({"AuthMode": "iam"}, []),
    ({"MonthlyBudget": "50", "AlarmEmail": "ada@example.com"}, []),
    ({"MonthlyBudget": "50"}, ["MonthlyBudget needs AlarmEmail, who is told"]),
    ({}, []),
]


@pytest.fixture(scope="module")
def needing() -> list[Stack]:
    return stacks_of([parameters for parameters, _ in NEEDS])


@pytest.mark.parametrize("number", range(len(NEEDS)), ids=[str(parameters) for parameters, _ in NEEDS])
def test_parameters_that_need_each_other_are_refused_alone(needing: list[Stack], number: int) -> None:
    stack, (_, broken) = needing[number], NEEDS[number]
    assert [
        assertion["AssertDescription"]
        for rule in stack.template["Rules"].values()
        if holds(rule["RuleCondition"], stack.parameters, {})
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], stack.parameters, {})
    ] == broken


def test_other_origins_are_refused_unless_named(stack: Stack) -> None:
    cors = stack.properties("HttpApi").get("CorsConfiguration")
    if not stack.parameters["AllowedOrigins"]:
        assert cors is None
    else:
        assert cors == {
            "AllowOrigins": {"Fn::Split": [",", {"Ref": "AllowedOrigins"}]},
            "AllowMethods": ["GET", "POST", "DELETE"],
            "AllowHeaders": ["authorization", "*"],
            "ExposeHeaders": ["retry-after", "server-timing", "x-request-id", "x-model-version"],
            "MaxAge": 3600,
        }


def test_models_bucket_is_private(stack: Stack) -> None:
    bucket = stack.template["Resources"]["ModelsBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert bucket["Properties"] == {
        **PRIVATE,
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "abandon-unfinished-uploads",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                },
                {
                    "Id": "forget-what-was-replaced",
                    "Status": "Enabled",
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                },
            ]
        },
    }


@pytest.mark.parametrize("bucket", ["ModelsBucket", "ResultsBucket"])
def test_bucket_refuses_everybody_without_tls(stack: Stack, bucket: str) -> None:
    assert set(stack.of_type("AWS::S3::Bucket")) == {"ModelsBucket", "ResultsBucket"}
    policy = stack.properties(f"{bucket}Policy")
    assert policy["Bucket"] == {"Ref": bucket}
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]


def test_keys_survive_the_stack_and_mistakes(stack: Stack) -> None:
    [table] = stack.of_type("AWS::DynamoDB::Table").values()
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"] == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "key_hash", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "key_hash", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
