# SPDX-License-Identifier: MIT
"""pith serve by the OpenAI API's own client."""
import asyncio

import openai

from support import MODEL, Case

NAME = MODEL.name
MESSAGES = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Who are you, Anna?"}]
GREEDY = {"model": NAME, "temperature": 0, "max_tokens": 12}


class OpenAI(Case):
    arguments = ("--policy", "gate", "--policy", "dense=none")

    def setUp(self):
        self.client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def test_chat(self):
        answer = self.client.chat.completions.create(messages=MESSAGES, **GREEDY)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(answer.usage.completion_tokens, 12)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 12)
        with self.client.chat.completions.create(messages=MESSAGES, stream=True, stream_options={"include_usage": True},
                                                 **GREEDY) as stream:
            chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, answer.choices[0].message.content)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-2].choices[0].finish_reason, "length")
        self.assertEqual(chunks[-1].usage, answer.usage)
        newer = self.client.chat.completions.create(model=NAME, messages=MESSAGES, temperature=0, max_completion_tokens=12)
        self.assertEqual(newer.choices, answer.choices)

    def test_log_probabilities(self):
        answer = self.client.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=4, **GREEDY)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 12)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 4)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)
        old = self.client.completions.create(prompt="Anna", logprobs=2, **GREEDY).choices[0].logprobs
        self.assertEqual(len(old.token_logprobs), len(old.tokens))

    def test_completions(self):
        answer = self.client.completions.create(prompt=["Anna and", "The old house"], n=2, seed=5, model=NAME, max_tokens=9,
                                                frequency_penalty=0.5, presence_penalty=0.5, top_p=0.9, stop=["\n\n"],
                                                logit_bias={"5": -100})
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        again = self.client.completions.create(prompt=["Anna and", "The old house"], n=2, seed=5, model=NAME, max_tokens=9,
                                               frequency_penalty=0.5, presence_penalty=0.5, top_p=0.9, stop=["\n\n"],
                                               logit_bias={"5": -100})
        self.assertEqual([one.text for one in again.choices], [one.text for one in answer.choices])

    def test_extensions(self):
        answer = self.client.completions.create(prompt="Anna and " * 30, extra_body={"pith": {"policy": "dense"}}, **GREEDY)
        self.assertEqual(answer.choices[0].pith["rows_dropped"], 0)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], [NAME])

    def test_errors(self):
        create = self.client.chat.completions.create
        with self.assertRaisesRegex(openai.BadRequestError, "temperature: expected a number"):
            create(model=NAME, messages=MESSAGES, temperature=-1)
        with self.assertRaisesRegex(openai.NotFoundError, "model: expected") as caught:
            create(model="gpt-4", messages=MESSAGES)
        self.assertEqual((caught.exception.code, caught.exception.param), ("model_not_found", "model"))
        with self.assertRaises(openai.BadRequestError) as caught:
            create(messages=[{"role": "user", "content": "word " * 3000}], **GREEDY)
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_many_at_once_get_what_one_gets(self):
        async def all_of(prompts):
            async with openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key="none") as client:
                return await asyncio.gather(*(client.completions.create(prompt=prompt, **GREEDY) for prompt in prompts))

        prompts = [f"The old house number {i}" for i in range(24)]
        together = [one.choices[0].text for one in asyncio.run(all_of(prompts))]
        alone = [self.client.completions.create(prompt=prompt, **GREEDY).choices[0].text for prompt in prompts[::6]]
        self.assertEqual(together[::6], alone)

    def test_a_stream_may_be_left(self):
        with self.client.completions.create(prompt="Once", stream=True, model=NAME, max_tokens=900,
                                            extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
        self.assertTrue(self.server.until(self.server.is_empty))
