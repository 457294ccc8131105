"""An agent framework (Pydantic AI) drives the program: it offers tools, runs what is
called, gives the results back and asks again until the answer has its type. The model is
a tiny one with random weights, so every call is one that the grammar has forced."""

from typing import Annotated

import pytest

from test_tool_choice import model_of

pydantic_ai = pytest.importorskip("pydantic_ai")
from pydantic import BaseModel, Field  # noqa: E402
from pydantic_ai.models.openai import OpenAIChatModel  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402


class Trip(BaseModel):
    days: int = Field(ge=1, le=9)
    quiet: bool
    most: int | None = Field(ge=0, le=99)


@pytest.fixture(params=["qwen25_tools", "qwen3_coder"])
def model(request, serve, checkpoint):
    server = serve("--model", model_of(request.param, checkpoint), "--no-access-log")
    return OpenAIChatModel(
        "model", provider=OpenAIProvider(base_url=server.url + "/v1", api_key="none"))


def agent_over(model, seen):
    agent = pydantic_ai.Agent(
        model, output_type=Trip, instructions="Plan a trip.",
        model_settings={"temperature": 1.0, "max_tokens": 300})

    @agent.tool_plain
    def weather(city: Annotated[str, Field(max_length=12)], detailed: bool = False) -> str:
        """The weather of a city."""
        assert isinstance(city, str) and isinstance(detailed, bool)
        seen.append(city)
        return "rain"

    return agent


def test_loop_over_tools(model):
    """Until both a tool and the answer were called; each is about as likely."""
    seen, answers, turns = [], 0, 0
    for seed in range(20):
        limits = pydantic_ai.UsageLimits(request_limit=30)
        done = agent_over(model, seen).run_sync(
            "Where to?", usage_limits=limits, model_settings={"seed": seed})
        assert isinstance(done.output, Trip)
        answers += 1
        turns += done.usage.requests
        if seen and answers > 2:
            break
    assert seen and turns == answers + len(seen)


def test_streamed_loop(model):
    seen = []

    async def run(seed):
        async with agent_over(model, seen).run_stream(
                "Where to?", model_settings={"seed": seed}) as stream:
            return await stream.get_output()

    import asyncio
    for seed in range(3):
        assert isinstance(asyncio.run(run(seed)), Trip)
