"""Whether two engines have one model, and what mends it where they have not. Pure.

A name is what somebody called it: two that differ may be one model, and then a name mends it; more
often they are two, and then none does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from radixroute.deploy.serving.engines import engines_of
from radixroute.doctor.evidence import EngineSeen, Evidence
from radixroute.doctor.flags import MODEL, MODEL_NAME
from radixroute.doctor.kinds.attaching.weights import are_alike, are_other, name_of
from radixroute.protos import radixroute_pb2 as pb

TOKENS: Final = ("tokenizer", "template")  # findings of a join that another model has, too


@dataclass(frozen=True, slots=True)
class Kinship:
    """Of one engine with others. Neither: nobody knows."""

    other: str = ""  # why it is another model
    is_same: bool = False


def kinship(one: EngineSeen, usual: EngineSeen) -> Kinship:
    """By what both say of their models, tokenizers and greedy answers; names do not count."""
    this, that = one.examination, usual.examination
    if are_other(one, usual):
        return Kinship("it gives other greedy answers to the same prompts")
    if this.tokenizer and that.tokenizer and this.tokenizer != that.tokenizer:
        return Kinship("its tokenizer is another")
    if any(found.code == TOKENS[0] for found in this.findings):
        return Kinship("it makes other tokens of a text")
    own, theirs, alike = name_of(one), name_of(usual), are_alike(one, usual)
    if not (own and theirs):
        return Kinship(is_same=alike)
    if own == theirs:
        return Kinship(is_same=True)
    # Folders of one model may be called differently, and a few short answers be those of two.
    return Kinship() if alike else Kinship(f"its root is {own}, theirs {theirs}")


def of_told(own: pb.GetInfoResponse, usual: pb.GetInfoResponse) -> Kinship:
    """The same by what workers tell. One fingerprint may be of a folder that both were given, so
    that it proves nothing where another does not."""
    if own.tokenizer_fingerprint != usual.tokenizer_fingerprint:
        return Kinship("its tokenizer is another")
    if own.vocab_size != usual.vocab_size:
        return Kinship(f"it has {own.vocab_size:,} tokens to choose from, not {usual.vocab_size:,}")
    if own.model == usual.model and own.scope.kv_dtype == usual.scope.kv_dtype:
        return Kinship("its config or its weights are other ones")
    return Kinship()


def engine_of(evidence: Evidence, worker_id: str) -> EngineSeen | None:
    """That stands behind this worker, where the cluster says so."""
    served = evidence.setting("serve.engines", ()) if evidence.settings_are_its_own else ()
    urls = {str(one.name): one.url for one in engines_of(served)} if served else {}
    return next((one for one in evidence.engines if one.url == urls.get(worker_id)), None)


def fix_of(kind: str, kin: Kinship, name: str) -> str:
    """`name`: of the others' model. Empty `kind`: any."""
    model, served = MODEL.get(kind, _ANY_MODEL), MODEL_NAME.get(kind, _ANY_NAME)
    if kin.other:
        return (
            f"it is another model ({kin.other}), which no name mends: restart it with the {model}"
            " that the others have"
        )
    if kin.is_same:
        return f"it is the same model under another name: start it with {served} {name}"
    return (
        f"where it is another model (see its root at /v1/models), restart it with the {model} that"
        f" the others have; only where it is the same one, start it with {served} {name}"
    )


def other_by_name(evidence: Evidence) -> Iterator[tuple[EngineSeen, str]]:
    """Engines whose name and root are both other ones than those of most, and what mends that:
    what else of them differs is no wonder."""
    said = [
        (engine, statement.model)
        for engine in evidence.engines
        if (statement := engine.examination.statement) is not None
    ]
    names = [name for _, name in said]
    usual = max(names, key=names.count) if len(names) > 1 else ""
    first = next((engine for engine, name in said if name == usual), None)
    for engine, name in said:
        if first is not None and name != usual:
            kin = kinship(engine, first)
            statement = engine.examination.statement
            kind = "" if statement is None else statement.kind
            if kin.other:
                yield engine, fix_of(kind, kin, usual)


_ANY_MODEL: Final = "--model (SGLang: --model-path; ours: worker.model)"
_ANY_NAME: Final = "--served-model-name (worker.served_model_name)"
