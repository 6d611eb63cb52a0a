"""Small decoders for tests."""

from radixroute.worker.model.teaching.attention import Heads
from radixroute.worker.model.teaching.decoder import DecoderShape
from radixroute.worker.model.teaching.latent import LatentHeads

GPT2 = DecoderShape("gpt2", 2, 32, 64, Heads(4, 4, 8), 97, 256)
GROUPED = DecoderShape("llama", 2, 32, 64, Heads(4, 2, 8), 97, 256)
ONE_KV_HEAD = DecoderShape("llama", 2, 32, 64, Heads(4, 1, 8), 97, 256)
LATENT = DecoderShape("llama", 2, 32, 64, LatentHeads(4, 8, 12, 4), 97, 256)
WINDOWED = GROUPED.windowed(7)
SHAPES = {
    "mha": GPT2,
    "gqa": GROUPED,
    "mqa": ONE_KV_HEAD,
    "mla": LATENT,
    "window": WINDOWED,
}
