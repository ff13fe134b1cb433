"""The other losses: gradients in float64, formulas written out, and the traps of the papers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from torch.nn.functional import cosine_similarity, normalize  # noqa: E402

from tessella.encoder.scales import default_step, quantize  # noqa: E402
from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train import losses  # noqa: E402
from tessella.train.losses import InfoNCE  # noqa: E402

N, K, D, LAYERS = 5, 3, 8, 4
Tensor = Any


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def made(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def triple() -> dict[str, Tensor]:
    return {"query": made(N, D), "positive": made(N, D), "negative": made(N, K, D)}


CHECKED: dict[str, tuple[losses.Loss, dict[str, Any]]] = {
    "Matryoshka of any loss": (losses.Matryoshka(losses.Triplet(margin=3.0), (8, 4)), triple()),
    "Matryoshka2D": (losses.Matryoshka2D(InfoNCE(), (4, 2), kl_weight=0.0), {
        "query": made(N, LAYERS, D), "positive": made(N, LAYERS, D)}),
    "Starbucks": (losses.Starbucks(InfoNCE(), ((1, 2), (3, 4))), {
        "query": made(N, LAYERS, D), "positive": made(N, LAYERS, D)}),
    "MixedNegatives": (losses.MixedNegatives(InfoNCE(temperature=0.5), pairs=2), triple()),
    "CLP": (losses.CLP(InfoNCE(temperature=0.5)), {**triple(), "negative_query": made(N, K, D)}),
    "SpreadOut": (losses.SpreadOut(), {"query": made(N, D), "positive": made(N, D)}),
    "CoSENT": (losses.CoSENT(0.5), {"query": made(N, D), "positive": made(N, D), "score": made(N)}),
    "RankNet": (losses.RankNet(), {"query": made(N, D), "negative": made(N, K, D), "score": made(N, K)}),
    "Triplet": (losses.Triplet(margin=3.0), triple()),
    "Triplet, euclidean": (losses.Triplet(3.0, distance="euclidean", over="hardest"), triple()),
    "LEAF": (losses.LEAF(), {"query": made(N, D), "teacher": made(N, D)}),
    "Stella": (losses.Stella(), {"query": made(N, D), "teacher": made(N, D)}),
    "Matryoshka of Stella": (losses.Matryoshka(losses.Stella(), (8, 4, 2)), {
        "query": made(N, D), "teacher": made(N, D)}),
    "ScoreDistillation": (losses.ScoreDistillation(), {**triple(), "score": made(N, 1 + K)}),
    "MarginMSE": (losses.MarginMSE(), {**triple(), "score": made(N, 1 + K)}),
    "Sum": (InfoNCE() + 0.5 * (losses.SpreadOut() + 2.0 * losses.SpreadOut("query")), triple()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_gradient(name: str) -> None:
    loss, columns = CHECKED[name]
    names = [each for each in columns if each in ("query", "positive", "negative", "negative_query")]
    leaves = [columns[each].requires_grad_() for each in names]
    drawn = [module for module in loss.modules() if hasattr(module, "count")]

    def value(*given: Tensor) -> Tensor:
        for module in drawn:
            module.count.zero_()  # the same draw each time
        return loss(**{**columns, **dict(zip(names, given, strict=True))})

    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)


def test_sums_add_and_scale() -> None:
    columns = triple()
    one, other = InfoNCE(), losses.SpreadOut()
    both = 2.0 * (one + 0.5 * other)
    assert float(both(**columns)) == pytest.approx(2 * float(one(**columns)) + float(other(**columns)))
    assert both.columns()["query"] and not both.columns()["negative"]


def test_matryoshka_reaches_into_sums() -> None:
    columns = triple()
    found = losses.Matryoshka(InfoNCE() + 0.5 * losses.SpreadOut(), (8, 4))(**columns)
    parts = [
        losses.Matryoshka(InfoNCE(), (8, 4))(**columns),
        0.5 * losses.Matryoshka(losses.SpreadOut(), (8, 4))(**columns),
    ]
    assert found.item() == pytest.approx(float(sum(parts)))
    with pytest.raises(InvalidArgument, match="got 9 of 8"):
        losses.Matryoshka(losses.SpreadOut(), (9,))(**columns)
    with pytest.raises(InvalidArgument, match="expected a loss without dims"):
        losses.Matryoshka(InfoNCE(dims=(4,)), (2,))


def softmax_kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.softmax(-1)
    return (p * (p.log() - student.softmax(-1).log())).sum(-1).mean()


def test_starbucks_is_the_hand_computed_sum() -> None:
    """All pairs each step; under embeddings T is a factor alone and no side is a constant."""
    columns = {"query": made(N, LAYERS, D), "positive": made(N, LAYERS, D)}
    query, positive = columns.values()
    found = losses.Starbucks(InfoNCE(), ((1, 2), (3, 4)), kl_weight=0.7, temperature=0.3)(**columns)
    expected = InfoNCE()(query[:, 3], positive[:, 3])
    for layer, m in ((0, 2), (2, 4)):
        expected = expected + InfoNCE()(query[:, layer, :m], positive[:, layer, :m])
        full, part = (normalize(torch.cat([query, positive])[:, each, :m], dim=1) for each in (3, layer))
        expected = expected + 0.7 * 0.3 * softmax_kl(full, part)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_starbucks_for_retrieval_cuts_vectors_normalised_in_full() -> None:
    columns = {"query": made(N, LAYERS, D), "positive": made(N, LAYERS, D)}
    query, positive = (normalize(each, dim=-1) for each in columns.values())
    loss = InfoNCE(temperature=0.05, normalized=False)
    found = losses.Starbucks(loss, ((2, 4),), kl="scores", temperature=0.3, score_scale=20.0)(**columns)
    target = torch.arange(N)
    full = 20 * query[:, 3] @ positive[:, 3].T
    part = 20 * query[:, 1, :4] @ positive[:, 1, :4].T
    entropy = torch.nn.functional.cross_entropy
    expected = entropy(full, target) + entropy(part, target) + 0.3 * softmax_kl(full, part)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_2dmse_draws_a_layer_and_a_dim_and_pulls_the_layer_alone() -> None:
    columns = {"query": made(N, LAYERS, D).requires_grad_(), "positive": made(N, LAYERS, D)}
    query, positive = columns.values()
    loss = losses.Matryoshka2D(InfoNCE(), (4, 2), seed=3)
    value = loss(**columns)
    candidates = []
    for layer, m in itertools.product(range(LAYERS - 1), (4, 2)):
        last, drawn = ((query[:, each], positive[:, each]) for each in (LAYERS - 1, layer))
        tasks = [InfoNCE()(*each) + InfoNCE()(*(x[:, :m] for x in each)) for each in (last, drawn)]
        pull = softmax_kl(torch.cat(last).detach() / 0.3, torch.cat(drawn) / 0.3)
        candidates.append(tasks[0] + tasks[1] / (1 + layer) + 0.3 * pull)
    nearest = min(candidates, key=lambda each: abs(each.item() - value.item()))
    assert nearest.item() == pytest.approx(value.item(), rel=1e-12)
    ours, theirs = (torch.autograd.grad(each, columns["query"])[0] for each in (value, nearest))
    assert torch.allclose(ours, theirs)
    assert len({loss(**columns).item() for _ in range(20)}) > 3
    again = losses.Matryoshka2D(InfoNCE(), (4, 2), seed=3)
    assert again(**columns).item() == value.item()


def test_mixed_negatives_lie_between_two_of_the_row_and_carry_no_id() -> None:
    seen: dict[str, Tensor] = {}

    class Spy(InfoNCE):
        def value(self, **columns: Any) -> Tensor:
            seen.update(columns)
            return super().value(**columns)

        def columns(self) -> dict[str, bool]:
            return InfoNCE().columns()

    columns = {**triple(), "positive_id": torch.arange(N), "negative_id": torch.arange(N * K).view(N, K)}
    columns["negative"] = normalize(columns["negative"], dim=-1)
    losses.MixedNegatives(Spy(), pairs=2)(**columns)
    negative, ids = seen["negative"], seen["negative_id"]
    assert negative.shape == (N, K + 3, D)
    assert torch.equal(negative[:, :K], columns["negative"])
    assert torch.allclose(negative.norm(dim=-1), torch.ones(N, K + 3).double())
    assert (ids[:, K:] < 0).all()
    for i in range(N):
        for mix in negative[i, K : K + 2]:  # in the span of two of the row's, with shares of one sign
            two = [columns["negative"][i, [a, b]].T for a, b in itertools.combinations(range(K), 2)]
            fits = [(each, torch.linalg.lstsq(each, mix[:, None]).solution) for each in two]
            assert any(torch.allclose((each @ s)[:, 0], mix) and (s >= 0).all() for each, s in fits)
    similarity = cosine_similarity(columns["query"][:, None], columns["negative"], dim=-1)
    listed = normalize((similarity.softmax(1)[:, :, None] * columns["negative"]).sum(1), dim=-1)
    assert torch.allclose(negative[:, -1], listed)
    with pytest.raises(InvalidArgument, match="expected two negatives a row at least; got 1"):
        losses.MixedNegatives(InfoNCE())(**{**triple(), "negative": made(N, 1, D)})


def test_clp_draws_a_negative_to_its_own_query() -> None:
    """The printed formula's sign would push it away."""
    columns = {**triple(), "negative_query": made(N, K, D)}
    columns["negative"].requires_grad_()
    value = losses.CLP(InfoNCE(), share=1.0)(**columns)
    (gradient,) = torch.autograd.grad(value, columns["negative"])
    after = columns["negative"].detach() - 0.1 * gradient
    closer = cosine_similarity(after, columns["negative_query"], dim=-1)
    assert (closer > cosine_similarity(columns["negative"].detach(), columns["negative_query"], dim=-1)).all()
    none = losses.CLP(InfoNCE(), share=0.0)(**columns)
    del columns["negative_query"]
    assert none.item() == InfoNCE()(**columns).item()


def test_cosent_by_loops() -> None:
    query, positive, score = made(N, D), made(N, D), torch.tensor([3.0, 1.0, 3.0, 2.0, 1.0])
    s = cosine_similarity(query, positive)
    total = sum(
        math.exp(float(s[b] - s[a]) / 0.05) for a, b in itertools.permutations(range(N), 2) if score[a] > score[b]
    )
    assert float(losses.CoSENT()(query, positive, score)) == pytest.approx(math.log1p(total), rel=1e-12)
    assert float(losses.CoSENT()(query, positive, torch.ones(N))) == 0.0


def test_ranknet_by_loops_without_empty_places() -> None:
    query, documents = made(N, D), made(N, K, D)
    score = torch.tensor([[2.0, 1.0, 1.0], [1.0, 2.0, -math.inf], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    terms = []
    for i in range(N):
        s = 10 * cosine_similarity(query[i : i + 1], documents[i])
        for a, b in itertools.permutations(range(K), 2):
            if score[i, a] > score[i, b] > -math.inf:
                terms.append(math.log1p(math.exp(-float(s[a] - s[b]))))
    assert float(losses.RankNet()(query, documents, score)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_stella_order_without_pairs_of_pairs(n: int, ties: bool) -> None:
    """Value and gradient of the O(n^4) enumeration, equal teachers left out."""
    scores = made(n * (n - 1) // 2).requires_grad_()
    teacher = made(len(scores)) if not ties else torch.randint(3, (len(scores),)).double()
    pairs = [(a, b) for a in range(len(scores)) for b in range(len(scores)) if teacher[a] > teacher[b]]
    terms = [(scores[b] - scores[a] + 0.4).relu() for a, b in pairs]
    expected = torch.stack(terms).mean() if terms else scores.sum() * 0
    found = losses.distill.order_loss(scores, teacher, 0.4)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    if len(scores):
        ours, theirs = (torch.autograd.grad(each, scores)[0] for each in (found, expected))
        assert torch.allclose(ours, theirs)


def test_stella_at_a_batch_whose_pairs_of_pairs_would_not_fit() -> None:
    """512 texts have 130,816 similarities and 17 billion pairs of them."""
    query = torch.randn(512, 16).requires_grad_()
    value = losses.Stella()(query, torch.randn(512, 16))
    value.backward()
    assert math.isfinite(value.item()) and (query.grad != 0).any()


def test_stella_on_prefixes_is_the_mean_of_their_similarity_terms() -> None:
    """As in Jasper: prefixes of the student against the whole teacher, whose vectors are not cut; one cosine term."""
    query, teacher = made(N, D), made(N, D)
    cosine = losses.Stella(similarity=0, order=0)(query, teacher)
    parts = [losses.Stella(cosine=0)(query[:, :m], teacher) for m in (2, 4, D)]
    found = losses.Matryoshka(losses.Stella(), (D, 4, 2))(query, teacher)
    assert found.item() == pytest.approx(float(cosine + sum(parts) / 3), rel=1e-12)
    found = losses.Matryoshka(losses.Stella(), (D, 4, 2), weights=(2, 1, 1))(query, teacher)
    assert found.item() == pytest.approx(float(cosine + (parts[0] + parts[1] + 2 * parts[2]) / 4), rel=1e-12)
    columns = {"query": query, "positive": made(N, D), "teacher": teacher}
    both = losses.Matryoshka(0.5 * losses.Stella() + losses.SpreadOut(), (4, 2))(**columns)
    spread = losses.Matryoshka(losses.SpreadOut(), (4, 2))(**columns)
    assert both.item() == pytest.approx(float(0.5 * (cosine + sum(parts[:2]) / 2) + spread), rel=1e-12)
    with pytest.raises(InvalidArgument, match="Stella: expected dims within those of the embeddings; got 9 of 8"):
        losses.Matryoshka(losses.Stella(), (9, 4))(query, teacher)
    with pytest.raises(InvalidArgument, match="expected a loss without dims"):
        losses.Matryoshka(losses.Stella(dims=(4,)), (2,))


def test_stella_of_another_width_lacks_the_cosine() -> None:
    with pytest.raises(InvalidArgument, match="with cosine > 0"):
        losses.Stella()(made(4, 8), made(4, 16))
    assert float(losses.Stella(cosine=0)(made(4, 8), made(4, 16))) > 0


def test_binary_in_the_forward_pass_straight_through_in_the_other() -> None:
    columns = {"query": made(N, D).requires_grad_(), "positive": made(N, D)}
    value = losses.QuantizationAware(InfoNCE(), "binary")(**columns)
    signs = [torch.where(each >= 0, 1.0, -1.0).double() for each in columns.values()]
    assert value.item() == pytest.approx(float(InfoNCE()(*signs)), rel=1e-12)
    quantised = (signs[0] / D**0.5).requires_grad_()
    (of_codes,) = torch.autograd.grad(InfoNCE()(quantised, signs[1]), quantised)
    unit = normalize(columns["query"], dim=1)
    (through,) = torch.autograd.grad(unit, columns["query"], of_codes)
    (found,) = torch.autograd.grad(value, columns["query"])
    assert torch.allclose(found, through)


def test_one_side_may_stay_in_float() -> None:
    query, positive = made(N, D), made(N, D)
    found = losses.QuantizationAware(InfoNCE(), "binary", sides=("positive",))(query, positive)
    assert found.item() == pytest.approx(float(InfoNCE()(query, torch.sign(positive))), rel=1e-12)


def test_int8_rounds_within_a_range_that_is_kept() -> None:
    loss = losses.QuantizationAware(InfoNCE(), "int8")
    x = normalize(made(200, D), dim=1)
    loss(x, x.roll(1, 0))
    ranged = loss.range
    step = (ranged.high - ranged.low) / 255
    assert ((ranged(x) - x).abs() <= step / 2 + 1e-12).all()
    again = losses.QuantizationAware(InfoNCE(), "int8")
    again.load_state_dict(loss.state_dict())
    again.eval()
    far = (10 * x[:1]).requires_grad_()
    (gradient,) = torch.autograd.grad(again.range(far).sum(), far)
    outside = (far > ranged.high) | (far < ranged.low)
    assert outside.any() and torch.equal(gradient == 0, outside)
    with pytest.raises(InvalidArgument, match="expected a range"):
        losses.QuantizationAware(InfoNCE(), "int8").eval()(x, x)


class Seen(InfoNCE):
    """Keeps the columns that it was called with."""

    def value(self, *given: Tensor, **columns: Tensor) -> Tensor:
        self.seen = columns
        return super().value(*given, **columns)

    def columns(self) -> dict[str, bool]:
        return InfoNCE().columns()


@pytest.mark.parametrize("step", ["encoder", 0.005])
def test_int8_by_a_step_is_what_an_encoder_stores(step: Any) -> None:
    """Code for code, those that are clipped included; of a prefix the step of its own length."""
    x = torch.randn(200, D)
    x[0] = torch.eye(D)[0] * 3
    for m in (D, 4):
        seen = Seen()
        loss = losses.QuantizationAware(seen, "int8", step=step)
        loss(x[:, :m], x[:, :m].roll(1, 0))
        width = default_step(m) if step == "encoder" else step
        codes = quantize(normalize(x[:, :m], dim=1).numpy(), width)
        assert torch.equal(seen.seen["query"], torch.from_numpy(codes).float() * width)
        assert abs(codes).max() == 127 or step == "encoder"
    assert not list(loss.buffers())


STRAIGHT_THROUGH = {"by a step": {"step": 0.005}, "by the encoder's step": {"step": "encoder"}, "by ranges": {}}


def quantised(options: dict[str, Any], loss: losses.Loss, x: Tensor) -> losses.QuantizationAware:
    """In evaluation mode, with ranges that x does not all fit into."""
    made_loss = losses.QuantizationAware(loss, "int8", **options)
    if made_loss.range is not None:
        made_loss.range.update(0.8 * normalize(x, dim=1))
    return made_loss.eval()


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_int8_in_the_forward_pass_straight_through_in_the_other(name: str) -> None:
    """The gradient is that of the loss at the codes, through the normalisation, zero where a code was clipped."""
    query, positive = made(N, D).requires_grad_(), made(N, D)
    loss = quantised(STRAIGHT_THROUGH[name], Seen(), query.detach())
    (found,) = torch.autograd.grad(loss(query, positive), query)
    codes = loss.loss.seen["query"].detach().requires_grad_()
    (of_codes,) = torch.autograd.grad(InfoNCE()(codes, loss.loss.seen["positive"].detach()), codes)
    unit = normalize(query, dim=1)
    most = 127 * (default_step(D) if loss.step == "encoder" else loss.step or 0)
    low, high = (-most, most) if loss.range is None else (loss.range.low, loss.range.high)
    clipped = (unit < low) | (unit > high)
    (through,) = torch.autograd.grad(unit, query, of_codes.masked_fill(clipped, 0))
    assert torch.allclose(found, through)
    assert clipped.any() or name == "by the encoder's step"


@pytest.mark.parametrize(("kind", "options"), [("binary", {}), *(("int8", each) for each in STRAIGHT_THROUGH.values())])
def test_gradient_of_the_side_that_stays_in_float(kind: str, options: dict[str, Any]) -> None:
    """There the loss has a derivative: the codes of the other side are constants to it."""
    query, positive = made(N, D).requires_grad_(), made(N, D)
    loss = losses.QuantizationAware(InfoNCE(0.5), kind, sides=("positive",), **options)
    if loss.range is not None:
        loss.range.update(normalize(positive, dim=1))
    loss.eval()
    assert torch.autograd.gradcheck(lambda x: loss(x, positive), [query], fast_mode=True)


@pytest.mark.parametrize(
    ("kind", "step"), [("int8", 0), ("int8", "other"), ("int8", math.inf), ("int8", True), ("binary", 0.1)]
)
def test_steps_that_are_none_are_refused(kind: str, step: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected step as 'encoder' or a number above 0, with int8; got"):
        losses.QuantizationAware(InfoNCE(), kind, step=step)


PULLED: dict[str, Any] = {
    "Matryoshka2D": lambda weight: losses.Matryoshka2D(InfoNCE(0.5), (4, 2), kl_weight=weight),
    "Starbucks, scores": lambda weight: losses.Starbucks(
        InfoNCE(0.5, normalized=False), ((1, 2), (3, 4)), kl="scores", kl_weight=weight
    ),
}


@pytest.mark.parametrize("name", PULLED)
def test_gradient_of_the_layers_that_a_divergence_pulls(name: str) -> None:
    """Of the lower layers, which it pulls; to it the last one is a constant, and learns from the task alone."""
    lower = [made(N, LAYERS - 1, D).requires_grad_() for _ in range(2)]
    last = [made(N, 1, D).requires_grad_() for _ in range(2)]

    def value(*layers: Tensor, weight: float = 2.0) -> Tensor:
        below, top = layers[:2], layers[2:]
        query, positive = (torch.cat(each, dim=1) for each in zip(below, top, strict=True))
        return PULLED[name](weight)(query=query, positive=positive)  # made anew: the same draw each time

    constant = [each.detach() for each in last]
    assert torch.autograd.gradcheck(lambda *below: value(*below, *constant), lower, fast_mode=True)
    pulled, free = (torch.autograd.grad(value(*lower, *last, weight=each), [*lower, *last]) for each in (2.0, 0.0))
    assert not torch.allclose(torch.stack(pulled[:2]), torch.stack(free[:2]))
    assert torch.allclose(torch.stack(pulled[2:]), torch.stack(free[2:]))


def test_leaf_is_matryoshka_free_and_plain() -> None:
    query, teacher = made(N, D), made(N, D)
    assert float(losses.LEAF()(query, teacher)) == pytest.approx(
        float((2 - 2 * cosine_similarity(query, teacher)).mean())
    )
