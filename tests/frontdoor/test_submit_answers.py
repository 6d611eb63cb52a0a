"""`submit` with several answers, log probabilities and what shapes a distribution."""

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.logprobs import TokenLogprob, pack_logprobs
from radixroute.request.wire import logprobs_to_proto, pack_tokens

STOP = pb.FINISH_REASON_STOP


def piece(index, position, text, finish=0, prompt_tokens=0):
    told = pack_logprobs([TokenLogprob(-0.5 - position, ((7, -0.25), (8, -1.0)))])
    usage = pb.Usage(prompt_tokens=prompt_tokens, output_tokens=2, worker_id=f"worker-{index}")
    return pb.GenerateResponse(
        request_id=f"{index}" * 32,
        index=index,
        position=position,
        token_ids=pack_tokens([40 + position]),
        text=text,
        finish_reason=finish,
        usage=usage if finish else None,
        logprobs=logprobs_to_proto(told),
    )


def test_what_shapes_the_distribution_reaches_the_router(cli, router, script):
    options = (
        "--presence-penalty 0.5 --frequency-penalty -0.5 --repetition-penalty 1.25 --min-p 0.5"
    )
    more = "--logit-bias 7=-100 --logit-bias 198=2.5 --logprobs 3"
    cli("submit", "x", *options.split(), *more.split(), "--router", router)
    assert script.asked[0].sampling == pb.SamplingParams(
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.25,
        min_p=0.5,
        logit_bias={7: -100.0, 198: 2.5},
        logprobs=3,
    )


def test_answers_are_printed_one_after_another_however_they_come(cli, router, script):
    script.answer = (
        piece(1, 0, "other "),
        piece(0, 0, "one "),
        piece(1, 1, "way", STOP),
        piece(0, 1, "way", STOP, prompt_tokens=480),
    )
    result = cli("submit", "x", "--n", "2", "--router", router)
    assert result.exit_code == 0
    assert result.stdout == "one way\nother way\n"
    assert script.asked[0].sampling.n == 2
    footers = [line for line in result.stderr.splitlines() if "request" in line]
    assert ["0 of 480 prompt tokens cached" in line for line in footers] == [True, False]
    assert ["worker-0" in footers[0], "worker-1" in footers[1]] == [True, True]


def test_log_probabilities_go_to_stderr_token_by_token(cli, router, script):
    script.answer = (piece(0, 0, "a"), piece(0, 1, "b", STOP, prompt_tokens=3))
    result = cli("submit", "x", "--logprobs", "2", "--router", router)
    assert result.stdout == "ab\n"
    assert result.stderr.splitlines()[:2] == [
        "token 40: -0.5000 \u00b7 likeliest 7: -0.2500, 8: -1.0000",
        "token 41: -1.5000 \u00b7 likeliest 7: -0.2500, 8: -1.0000",
    ]


def test_an_answer_that_never_ends_is_a_failure(cli, router, script):
    script.answer = (piece(0, 0, "a", STOP), piece(1, 0, "b"))
    result = cli("submit", "x", "--n", "2", "--router", router)
    assert (result.exit_code, "ended before the answer was complete" in result.stderr) == (1, True)
    assert result.stdout == "a\nb"


@pytest.mark.parametrize("bias", ["7", "7=", "x=1", "=1", "-3=1"])
def test_a_bias_that_is_none_says_how_to_write_one(cli, router, script, bias):
    result = cli("submit", "x", "--logit-bias", bias, "--router", router)
    assert (result.exit_code, "--logit-bias is" in result.stderr) == (2, True)
    assert script.asked == []
