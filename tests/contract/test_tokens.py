"""The official client with a token in place of a key, checked by the application where no gateway has: both ways."""

import openai
import pytest

from tests.issuers import AUDIENCE, running_issuer
from tests.services import make_settings, running_app
from tests.serving import Way, both_ways, served


@both_ways
def test_a_token_is_as_good_as_a_key(way: Way) -> None:
    with running_issuer() as issuer:
        settings = make_settings(auth_mode="jwt", jwt_issuer=issuer.url, jwt_audience=AUDIENCE)
        with running_app(settings=settings) as app, served(way(app)) as anybody:
            ada = anybody.with_options(api_key=issuer.token())
            assert [model.id for model in ada.models.list()] == ["tiny"]
            assert list(ada.completions.create(model="tiny", prompt="a", max_tokens=2, stream=True))

            with pytest.raises(openai.AuthenticationError, match="The token is not valid"):
                anybody.models.list()
            late = anybody.with_options(api_key=issuer.token(exp=1))
            with pytest.raises(openai.AuthenticationError, match=r"The token has expired\."):
                late.models.list()
