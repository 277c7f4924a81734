"""The sparse step is overcomplete's step: the same losses and the same weights, update by update."""

import numpy as np
import pytest
import torch

from analysis.sae.step import CpuStep, Rule, State
from analysis.sae.step_torch import TorchStep
from tests.sae import needs_overcomplete


def start(seed=0, n_concepts=96, width=20):
    rng = np.random.default_rng(seed)
    bound = 1 / np.sqrt(width)
    weight = rng.uniform(-bound, bound, (n_concepts, width)).astype(np.float32)
    bias = rng.uniform(-bound, bound, n_concepts).astype(np.float32)
    return weight, bias, rng.standard_normal((n_concepts, width)).astype(np.float32)


def batches(n=8, rows=64, width=20, seed=1, scale=1.0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((30, width))
    codes = rng.exponential(size=(n, rows, 30)) * (rng.random((n, rows, 30)) < 0.2)
    return (scale * (codes @ mixing)).astype(np.float32)


def autograd_steps(parameters, data, *, top_k, lr, clip, aux=0.0, aux_k=0, dead_after=0):
    """The definition, dense, by autograd and torch's Adam; checked against overcomplete itself below."""
    weight, bias, dictionary = (torch.nn.Parameter(torch.from_numpy(a.copy())) for a in parameters)
    optimizer = torch.optim.Adam([weight, bias, dictionary], lr=lr)
    quiet = torch.zeros(len(bias), dtype=torch.int32)
    losses = []

    def sparse(scores, k):
        top = scores.relu().topk(k)
        return torch.zeros_like(scores).scatter(1, top.indices, top.values)

    for batch in torch.from_numpy(data):
        with torch.no_grad():
            dictionary.div_(dictionary.norm(dim=1, keepdim=True) + 1e-8)
        scores = batch @ weight.T + bias
        z = sparse(scores, top_k)
        error = batch - z @ dictionary
        loss = error.square().mean() + 1e-2 * z.abs().mean()
        dead = quiet >= dead_after
        if aux and dead.any():
            z_aux = sparse(scores[:, dead], min(aux_k, int(dead.sum())))
            loss = loss + aux * (error.detach() - z_aux @ dictionary[dead]).square().mean()
        quiet += 1
        quiet[(z > 0).any(dim=0)] = 0
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([weight, bias, dictionary], clip)
        optimizer.step()
        losses.append(loss.item())
    unit = dictionary / (dictionary.norm(dim=1, keepdim=True) + 1e-8)
    return losses, [p.detach().numpy() for p in (weight, bias, unit)]


def engine(name, parameters, rule):
    state = State.fresh(*parameters)
    if name == "torch":
        return TorchStep(state, rule, "cpu")
    return CpuStep(state, rule, bfloat16=name == "bfloat16")


def assert_same(step, losses, mine, expected, atol=1e-5):
    np.testing.assert_allclose(mine, losses, rtol=1e-5)
    state = step.pull()
    for array, other in zip((state.encoder_weight, state.encoder_bias, state.dictionary), expected, strict=True):
        np.testing.assert_allclose(array, other, atol=atol)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "torch"])
def test_steps_follow_overcomplete(name):
    needs_overcomplete()
    from overcomplete.sae import TopKSAE

    weight, bias, dictionary = start()
    model = TopKSAE(20, nb_concepts=96, top_k=7)
    with torch.no_grad():
        model.encoder.final_block[0].weight.copy_(torch.from_numpy(weight))
        model.encoder.final_block[0].bias.copy_(torch.from_numpy(bias))
        model.dictionary._weights.copy_(torch.from_numpy(dictionary))
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-4)
    step = engine(name, (weight, bias, dictionary), Rule(top_k=7))
    for batch in batches(n=12):
        x = torch.from_numpy(batch)
        optimizer.zero_grad()
        _, z, x_hat = model(x)
        loss = (x - x_hat).square().mean() + 1e-2 * z.abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        outcome = step(batch, 8e-4)
        assert outcome.loss == pytest.approx(loss.item(), rel=1e-5)
        assert outcome.l0 == pytest.approx((z > 0).sum(dim=1).float().mean().item())
    state = step.pull()
    with torch.no_grad():
        theirs = [model.encoder.final_block[0].weight, model.encoder.final_block[0].bias, model.get_dictionary()]
    for mine, other in zip((state.encoder_weight, state.encoder_bias, state.dictionary), theirs, strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "torch"])
@pytest.mark.parametrize(("clip", "scale", "top_k"), [(1.0, 40.0, 5), (0.0, 40.0, 5), (1.0, 1.0, 96)])
def test_clipping_scale_and_width_of_the_code(name, clip, scale, top_k):
    """Large inputs are clipped (or not, on request); with top_k = K rows with few positive entries are the rule."""
    data = batches(scale=scale)
    losses, expected = autograd_steps(start(), data, top_k=top_k, lr=1e-3, clip=clip)
    step = engine(name, start(), Rule(top_k=top_k, clip=clip))
    assert_same(step, losses, [step(batch, 1e-3).loss for batch in data], expected)


@pytest.mark.parametrize("name", ["float32", "torch"])
def test_auxiliary_loss_revives_as_autograd_does(name):
    weight, bias, dictionary = start()
    bias[:60] -= 1.2  # most of these are silent at first; some fire again in a batch where they also count as dead
    data = batches(n=25)
    options = {"top_k": 4, "clip": 1.0, "aux": 0.5, "aux_k": 6, "dead_after": 3}
    losses, expected = autograd_steps((weight, bias, dictionary), data, lr=1e-2, **options)
    step = engine(name, (weight, bias, dictionary), Rule(**options))
    mine, revived = [], 0
    for batch in data:
        quiet = step.pull().quiet.copy()
        mine.append(step(batch, 1e-2).loss)
        revived += int(((quiet >= 3) & (step.pull().quiet == 0)).sum())
    assert revived > 0
    assert_same(step, losses, mine, expected, atol=5e-5)


def test_batches_of_changing_size_reuse_nothing_stale():
    data = batches(n=1, rows=64)[0]
    step = engine("float32", start(), Rule(top_k=5))
    step(data, 1e-3)
    small = step(data[:10], 1e-3).loss
    other = engine("float32", start(), Rule(top_k=5))
    other(data, 1e-3)
    assert other(data[:10].copy(), 1e-3).loss == pytest.approx(small, rel=1e-7)
